internal import Domain

extension UsageEvent {
    /// Takes over when the call began, as far as that is known.
    mutating func note(_ time: EventTime) {
        switch time {
        case .stated(let time): occurredAt = time
        case .implausible(let time): occurredAt = time ?? occurredAt
        case .ahead: flags.append(.timeClamped)
        }
    }

    /// Notes which values are not what the sender wrote.
    mutating func note(_ tokens: TokenCounts, _ cost: Cost?) {
        if tokens.isClamped { flags.append(.tokensClamped) }
        if let cost, cost.isSaturated { flags.append(.costSaturated) }
    }
}
