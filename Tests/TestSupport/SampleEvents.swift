package import Domain

extension UsageEvent {
    /// 2026-11-23T12:00:00Z, soon after the bodies were captured: the present of tests whose clock stands still.
    package static let sampleTime = Timestamp(microseconds: 1_795_435_200_000_000)

    /// A LiteLLM success of 100 and 50 tokens for 0.0015 USD, identified by `id`, to be changed by a test.
    package static func sample(
        _ id: UInt64, by identity: IdentityClaim, at occurredAt: Timestamp, cost: String = "0.0015"
    ) -> UsageEvent {
        UsageEvent(
            key: EventKey(high: UInt64(max(occurredAt.milliseconds, 0)) << 16, low: id), isIdempotent: true,
            shape: .litellm,
            identity: identity, status: .success, modelGroup: "gpt-4", deployment: "openai/gpt-4", provider: "openai",
            callType: "acompletion", inputTokens: 100, outputTokens: 50, cost: DecimalLiteral(cost).flatMap(Cost.init),
            occurredAt: occurredAt, durationMilliseconds: 1250)
    }
}

extension IdentityClaim {
    /// The claim of an event that carries `key` in clear.
    package static func key(_ key: String) -> IdentityClaim {
        IdentityClaim(keyHashes: [KeyHash(of: key)], presentedKey: key)
    }

    /// The claim of an event that carries only the hash of `key`.
    package static func hash(of key: String) -> IdentityClaim {
        IdentityClaim(keyHashes: [KeyHash(of: key)])
    }

    /// The claim of an event that carries only a user id.
    package static func user(_ id: Int64) -> IdentityClaim {
        IdentityClaim(userID: id)
    }
}
