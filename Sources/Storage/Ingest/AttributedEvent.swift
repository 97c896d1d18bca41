import Domain

/// An event together with the user it is attributed to. A class, as it is turned into columns field by field, and copying an
/// event for each of them would cost more than the rest.
final class AttributedEvent: Sendable {
    let event: UsageEvent
    let userID: Int64
    /// The hash by which the user was found, if by a key.
    let keyHash: KeyHash?
    /// Whether `laravel_user_id` alone found the user. Not a flag of the event yet: one that waits in quarantine is
    /// attributed anew.
    let isByIDAlone: Bool

    init(event: UsageEvent, userID: Int64, keyHash: KeyHash?, isByIDAlone: Bool = false) {
        self.event = event
        self.userID = userID
        self.keyHash = keyHash
        self.isByIDAlone = isByIDAlone
    }

    /// The flags of its row.
    var flags: [UsageEvent.Flag] { isByIDAlone ? event.flags + [.attributedByID] : event.flags }
}
