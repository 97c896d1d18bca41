internal import Crypto

extension UsageEvent {
    /// The first 64 bits of a SHA-256 of what is billed: tokens, the cost's literal and the status.
    ///
    /// Tells a duplicate from a conflict: two events of one key with the same digest are the same call sent again
    /// (`design.md` §4, Verdicts).
    package var billableDigest: Int64 {
        let facts = "\(inputTokens)|\(outputTokens)|\(cost?.literal.text ?? "")|\(status.rawValue)"
        return Int64(bitPattern: SHA256.hash(of: facts).word(at: 0))
    }
}
