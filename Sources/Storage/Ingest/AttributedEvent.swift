import Domain

/// An event together with the user it is attributed to. A class, as it is turned into columns field by field, and copying an
/// event for each of them would cost more than the rest.
final class AttributedEvent: Sendable {
    let event: UsageEvent
    let userID: Int64
    /// The hash by which the user was found, if by a key.
    let keyHash: KeyHash?

    init(event: UsageEvent, userID: Int64, keyHash: KeyHash?) {
        self.event = event
        self.userID = userID
        self.keyHash = keyHash
    }
}
