import Domain

/// Events turned from rows into columns, as `unnest` takes them.
struct EventColumns {
    let events: [AttributedEvent]

    init(_ events: [AttributedEvent]) {
        self.events = events
    }

    private func column<T>(_ value: (UsageEvent) -> T) -> [T] { events.map { value($0.event) } }

    var keys: [String] { column { $0.key.description } }
    var userIDs: [Int64] { events.map(\.userID) }
    var distinctUserIDs: [Int64] { Set(events.lazy.map(\.userID)).sorted() }
    var occurredAt: [Int64] { column { $0.occurredAt.microseconds } }
    var inputTokens: [Int64] { column { $0.inputTokens } }
    var outputTokens: [Int64] { column { $0.outputTokens } }
    var cachedTokens: [Int64] { column { $0.cachedTokens } }
    var reasoningTokens: [Int64] { column { $0.reasoningTokens } }
    var durations: [Int64?] { column { $0.durationMilliseconds } }
    var timesToFirstToken: [Int64?] { column { $0.timeToFirstTokenMilliseconds } }
    var digests: [Int64] { column { $0.billableDigest } }
    var quotaTokens: [Int64] { column { QuotaContribution(of: $0).tokens } }
    var quotaRequests: [Int64] { column { QuotaContribution(of: $0).requests } }
    var streams: [Bool] { column { $0.isStream } }
    var cacheHits: [Bool] { column { $0.isCacheHit } }
    var costs: [String?] { column { $0.cost?.usd } }
    var laravelCosts: [String?] { column { $0.cost?.laravelUSD } }
    var zeroIsUnpriced: [Bool] { column { $0.isUnpricedUnlessFree } }
    var shapes: [String] { column { $0.shape.rawValue } }
    var statuses: [String] { column { $0.status.rawValue } }
    var providers: [String?] { column { $0.provider } }
    var modelGroups: [String] { column { $0.modelGroup } }
    var deployments: [String?] { column { $0.deployment } }
    var callTypes: [String?] { column { $0.callType } }
    var errorCodes: [String?] { column { $0.errorCode } }
    var errorMessages: [String?] { column { $0.errorMessage } }
    var endUsers: [String?] { column { $0.endUser } }
    /// Joined by U+001F (unit separator), as arrays of arrays cannot be ragged.
    var tags: [String?] {
        column { event in
            event.tags.isEmpty
                ? nil
                : event.tags.map { $0.utf8.contains(0x1F) ? $0.replacing("\u{1F}", with: " ") : $0 }
                    .joined(separator: "\u{1F}")
        }
    }
    var flags: [String?] {
        events.map { $0.flags.isEmpty ? nil : $0.flags.map(\.rawValue).joined(separator: ",") }
    }
    var keyHashes: [[UInt8]?] { events.map { $0.keyHash?.bytes } }
}
