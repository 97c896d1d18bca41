import Domain

/// An item that is put aside, with what a later attempt needs.
struct QuarantineEntry: Sendable {
    let rejection: Rejection
    let isReplayable: Bool

    /// The entry of `item`, which as it was delivered decides whether its sender will send it again.
    init(_ rejection: Rejection, of item: IngestItem) {
        self.rejection = rejection
        isReplayable =
            switch rejection.reason {
            case .userLocked, .laravelUnavailable: true
            case .unknownKey, .unknownUser: rejection.event?.isIdempotent == true || !item.isRefusedWhenUnknown
            default: false
            }
    }

    private init(_ rejection: Rejection, isReplayable: Bool) {
        self.rejection = rejection
        self.isReplayable = isReplayable
    }

    /// The entry with nothing of the sender's in it, for facts that PostgreSQL cannot keep.
    var withoutFacts: QuarantineEntry {
        QuarantineEntry(
            Rejection(reason: .unstorable, detail: QuarantineReason.unstorable.explanation, key: rejection.key),
            isReplayable: false)
    }
}
