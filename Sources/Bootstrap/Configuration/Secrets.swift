internal import Crypto

/// A text that must not be in a log. Printed, also inside another value or a debugger's dump, it is `***`.
package struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private let text: String

    /// The secret `text`.
    package init(_ text: String) {
        self.text = text
    }

    /// The text itself, for the place that needs it.
    package func reveal() -> String { text }

    package var description: String { "***" }
    package var debugDescription: String { "***" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// The keys that the webhook accepts: the current one and, while it is being replaced, the previous one.
package struct WebhookKeys: Sendable {
    /// SHA-256 of each key. All digests have one length, so the time of a comparison does not depend on a key's length.
    private let digests: [[UInt8]]

    /// Keys that are not checked. Programs use ``init(reading:)``.
    package init(current: Secret, previous: Secret? = nil) {
        self.init([current, previous])
    }

    private init(_ keys: [Secret?]) {
        digests = keys.compactMap { $0.map { Self.digest($0.reveal()) } }
    }

    /// The current key, then the previous one.
    package static let table: SettingsTable = [
        Setting(
            "LITELLM_WEBHOOK_KEY", .secret,
            "The secret that LiteLLM sends as X-API-Key, at least 32 characters; make it by: openssl rand -hex 32."),
        Setting(
            "LITELLM_WEBHOOK_KEY_PREVIOUS", .secret,
            "The key before it, which is accepted too while the key is being replaced."),
    ]

    /// Reads ``table``. A missing current key is a problem of `settings`, and so is a key that is a placeholder or
    /// shorter than 32 characters.
    package init(reading settings: SettingsReader) {
        let keys = Self.table.settings.map { setting in
            let key = settings.secret(setting)
            if let fault = key.flatMap(Self.fault) { settings.reject(setting.name, fault) }
            return key
        }
        if keys[0] == nil {
            settings.reject(Self.table.settings[0].name, "is not set; a good one is made by: openssl rand -hex 32")
        }
        self.init(keys)
    }

    /// Whether `key` is one of the keys, in a time that depends on the length of `key` only.
    package func accepts(_ key: String) -> Bool {
        let candidate = Self.digest(key)
        var matches: UInt8 = 0
        for digest in digests {
            let difference = zip(digest, candidate).reduce(0 as UInt8) { $0 | ($1.0 ^ $1.1) }
            // 1 if there is no difference, without a branch.
            matches |= UInt8(truncatingIfNeeded: (UInt16(difference) &- 1) >> 15)
        }
        return matches != 0
    }

    /// Parts of keys that examples show.
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
