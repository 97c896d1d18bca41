package import Domain

/// One event of a body on its way to a verdict.
package struct IngestItem: Sendable {
    package var result: Result<UsageEvent, Rejection>
    /// Whether its sender learns by a 4xx that nobody was found (Laravel's answers for a single documented event): a
    /// nameless event of this kind is sent again as a new one, so it must not become a row by itself.
    package var isRefusedWhenUnknown: Bool
    /// Whether it comes from quarantine and not from a sender.
    package var isReplay: Bool
    /// Whether it may be stored later than the others of its body. Not beside nameless events: when the later part fails, the
    /// whole body is sent again, and they would count twice.
    var mayWait = true

    package init(_ result: Result<UsageEvent, Rejection>, isRefusedWhenUnknown: Bool = false, isReplay: Bool = false) {
        self.result = result
        self.isRefusedWhenUnknown = isRefusedWhenUnknown
        self.isReplay = isReplay
    }

    /// How much of the queue it takes: 1, and 1 for each KiB of texts that are kept.
    var weight: Int {
        let texts = [event?.errorMessage, event?.endUser] + (event?.tags ?? [])
        return 1 + texts.reduce(0) { $0 + ($1?.utf8.count ?? 0) } / 1024
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
