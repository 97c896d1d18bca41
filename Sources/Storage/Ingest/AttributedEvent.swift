import Domain

/// An event together with the user it is attributed to.
struct AttributedEvent: Sendable {
    let event: UsageEvent
    let userID: Int64
    /// The hash by which the user was found, if by a key.
    let keyHash: KeyHash?
}
