package import Domain

/// One event of a body on its way to a verdict. A class, as it is handed on many times, and copying an event with all its
/// texts for each would cost more than parsing it.
package final class IngestItem: Sendable {
    package let result: Result<UsageEvent, Rejection>
    /// Whether its sender learns by a 4xx that nobody was found (Laravel's answers for a single documented event): a
    /// nameless event of this kind is sent again as a new one, so it must not become a row by itself.
    let isRefusedWhenUnknown: Bool
    /// Whether it comes from quarantine and not from a sender.
    let isReplay: Bool
    /// Whether it may be stored later than the others of its body. Not beside nameless events: when the later part fails, the
    /// whole body is sent again, and they would count twice.
    let mayWait: Bool

    package init(
        _ result: Result<UsageEvent, Rejection>, isRefusedWhenUnknown: Bool = false, isReplay: Bool = false,
        mayWait: Bool = true
    ) {
        self.result = result
        self.isRefusedWhenUnknown = isRefusedWhenUnknown
        self.isReplay = isReplay
        self.mayWait = mayWait
    }

    /// The same, to be stored with its whole body or not at all.
    var withoutWaiting: IngestItem {
        IngestItem(result, isRefusedWhenUnknown: isRefusedWhenUnknown, isReplay: isReplay, mayWait: false)
    }

    /// How much of the queue it takes: 1, and 1 for each KiB of texts that are kept.
    var weight: Int {
        switch result {
        case .success(let event): event.weight
        case .failure(let rejection): rejection.event?.weight ?? 1
        }
    }

    /// Whether sending it again is recognised; so is what could not be read, by its bytes.
    var isIdempotent: Bool {
        switch result {
        case .success(let event): event.isIdempotent
        case .failure(let rejection): rejection.event?.isIdempotent ?? true
        }
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

extension UsageEvent {
    fileprivate var weight: Int {
        let texts = (errorMessage?.utf8.count ?? 0) + (endUser?.utf8.count ?? 0)
        return 1 + tags.reduce(texts) { $0 + $1.utf8.count } / 1024
    }
}
