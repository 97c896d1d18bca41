internal import Crypto
internal import Domain

extension Rejection {
    /// An event that names nobody.
    static func missingIdentity(_ event: UsageEvent) -> Rejection {
        Rejection(reason: .missingIdentity, detail: "The event names no user.", key: event.key, event: event)
    }

    /// An event whose start cannot be.
    static func implausibleTime(_ event: UsageEvent) -> Rejection {
        Rejection(
            reason: .implausibleTime,
            detail: "startTime is no time, is older than the retention, or lies more than 24 hours ahead.",
            key: event.key, event: event)
    }

    /// An event whose cost cannot be.
    static func implausibleCost(_ event: UsageEvent) -> Rejection {
        Rejection(
            reason: .implausibleCost, detail: "The cost is negative, not finite, or beyond numeric(20,12).",
            key: event.key, event: event)
    }

    /// A refused stranger's event: of its words nothing is kept, of its key only a hash, whatever it looks like
    /// (`litellm.md` §5).
    static func denied(_ event: UsageEvent, presenting key: String?) -> Rejection {
        var event = event
        event.identity = IdentityClaim(keyHashes: key.map { [KeyHash(of: $0)] } ?? [])
        event.errorMessage = nil
        event.endUser = nil
        event.tags = []
        return Rejection(
            reason: .denied, detail: "The proxy refused the caller's credentials.", key: event.key, event: event)
    }

    /// A part of `body` that is no event; where nothing is left of it, because the body ends too early, the whole body
    /// tells it from others.
    static func unreadable(_ part: UnsafeRawBufferPointer, of body: UnsafeRawBufferPointer, detail: String) -> Rejection
    {
        let digest = SHA256.hash(of: part.isEmpty ? body : part)
        return Rejection(
            reason: .unreadable, detail: detail, key: EventKey(milliseconds: 0, digest: digest),
            excerpt: "\(part.count) bytes, SHA-256 \(SHA256.hash(of: part).lowercaseHex): \(Excerpt.of(part))")
    }
}
