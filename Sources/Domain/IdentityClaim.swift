/// What an event says about who made the call (`design.md` §4, Identity); not yet a user.
package struct IdentityClaim: Sendable, Hashable, Codable {
    /// The hashes that the stated key can have, most likely first: a text of 64 hex digits is a hash, and could also be a
    /// key that happens to look like one.
    package var keyHashes: [KeyHash]
    /// Whether an unknown key may fall through to ``userID``: only a documented event's numeric `user_id`, which is
    /// one text with two readings.
    package var isKeyOptional: Bool
    /// `laravel_user_id` of the proxy's own metadata.
    package var laravelUserID: Int64?
    /// A numeric user id.
    package var userID: Int64?
    /// The stated key in clear, to look up `users.api_key` at once. Never stored, never coded, never printed.
    package var presentedKey: PresentedKey?

    package init(
        keyHashes: [KeyHash] = [], isKeyOptional: Bool = false, laravelUserID: Int64? = nil, userID: Int64? = nil,
        presentedKey: String? = nil
    ) {
        self.keyHashes = keyHashes
        self.isKeyOptional = isKeyOptional
        self.laravelUserID = laravelUserID
        self.userID = userID
        self.presentedKey = presentedKey.map(PresentedKey.init)
    }

    private enum CodingKeys: String, CodingKey {
        case keyHashes, isKeyOptional, laravelUserID, userID
    }

    /// Whether the key may have been stated as a hash, which no index of Laravel's finds.
    package var mayBeHash: Bool { presentedKey == nil || keyHashes.count > 1 }

    /// Whether the event names anybody at all.
    package var isEmpty: Bool { keyHashes.isEmpty && laravelUserID == nil && userID == nil }
}

/// A customer's key in clear, on its way through memory; its description shows nothing.
package struct PresentedKey: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    package let text: String

    package init(_ text: String) {
        self.text = text
    }

    package var description: String { "***" }
    package var debugDescription: String { "***" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}
