package import Domain

/// One event of a body on its way to a verdict.
package struct IngestItem: Sendable {
    package var result: Result<UsageEvent, Rejection>
    /// Whether its sender learns by a 4xx that nobody was found (Laravel's answers for a single documented event): a
    /// nameless event of this kind is sent again as a new one, so it must not become a row by itself.
    package var isRefusedWhenUnknown: Bool
    /// Whether it comes from quarantine and not from a sender.
    package var isReplay: Bool

    package init(_ result: Result<UsageEvent, Rejection>, isRefusedWhenUnknown: Bool = false, isReplay: Bool = false) {
        self.result = result
        self.isRefusedWhenUnknown = isRefusedWhenUnknown
        self.isReplay = isReplay
    }

    var key: EventKey {
        switch result {
        case .success(let event): event.key
        case .failure(let rejection): rejection.key
        }
    }

    /// The event, also where it was rejected with its facts.
    var event: UsageEvent? {
        switch result {
        case .success(let event): event
        case .failure(let rejection): rejection.event
        }
    }
}
