package import Domain

/// What the parser must be told of a request: it is pure, so time and randomness come from the caller.
package struct Arrival: Sendable {
    /// When the body was received.
    package var at: Timestamp
    /// How long facts are kept; an older event is implausible (`design.md` §4).
    package var retention: Duration
    /// The header `Idempotency-Key`, which names a single documented event.
    package var idempotencyKey: String?
    /// How much is kept of what a proxy says went wrong.
    package var errorText: ErrorText
    /// Makes the keys of events that nobody named.
    package var generator: any RandomNumberGenerator & Sendable

    package init(
        at: Timestamp, retention: Duration, errorText: ErrorText = .line, idempotencyKey: String? = nil,
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) {
        self.at = at
        self.retention = retention
        self.errorText = errorText
        self.idempotencyKey = idempotencyKey
        self.generator = generator
    }
}
