internal import Crypto

/// The keys that open the webhook: the current one and, while it is being replaced, the previous one.
package struct WebhookKeys: Sendable {
    /// SHA-256 of each key. Digests have one length, so that a comparison tells nothing of a key's.
    private let digests: [[UInt8]]

    /// Keys of `current` and `previous`, trusted to be good ones; programs use ``init(reading:)``.
    package init(current: Secret, previous: Secret? = nil) {
        self.init([current, previous])
    }

    private init(_ keys: [Secret?]) {
        digests = keys.compactMap { $0.map { Self.digest($0.reveal()) } }
    }

    /// `LITELLM_WEBHOOK_KEY` and `LITELLM_WEBHOOK_KEY_PREVIOUS`, which may be absent. An absent current key, and any key
    /// that is a placeholder or shorter than 32 characters, is a problem of `settings`.
    package init(reading settings: SettingsReader) {
        let names = ["LITELLM_WEBHOOK_KEY", "LITELLM_WEBHOOK_KEY_PREVIOUS"]
        let keys = names.map { name in
            let key = settings.secret(name)
            if let fault = key.flatMap(Self.fault) { settings.reject(name, fault) }
            return key
        }
        if keys[0] == nil { settings.reject(names[0], "is not set; a good one is made by: openssl rand -hex 32") }
        self.init(keys)
    }

    /// Whether `key` is one of the keys, in a time that depends on nothing but its own length.
    package func accepts(_ key: String) -> Bool {
        let candidate = Self.digest(key)
        var matches: UInt8 = 0
        for digest in digests {
            let difference = zip(digest, candidate).reduce(0 as UInt8) { $0 | ($1.0 ^ $1.1) }
            // 1 for no difference, without a branch.
            matches |= UInt8(truncatingIfNeeded: (UInt16(difference) &- 1) >> 15)
        }
        return matches != 0
    }

    /// Parts of the example keys in READMEs and `.env.example` files.
    private static let placeholders = ["your_", "your-", "change", "example", "secure_webhook_key_here"]

    private static func fault(_ key: Secret) -> String? {
        let text = key.reveal()
        let lowercase = text.lowercased()
        if Set(text).count == 1 || placeholders.contains(where: lowercase.contains) {
            return "is a placeholder; a good one is made by: openssl rand -hex 32"
        }
        return text.count < 32 ? "has \(text.count) characters; at least 32 are needed" : nil
    }

    private static func digest(_ key: String) -> [UInt8] {
        Array(SHA256.hash(data: Array(key.utf8)))
    }
}
