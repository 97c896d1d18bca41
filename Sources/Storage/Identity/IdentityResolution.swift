import Domain

/// Who made a call, judged from what the event states and what we know of keys (`design.md` §4, Identity). Pure.
enum IdentityResolution: Hashable {
    /// The user, whose row the ingest statement still has to find, and the hash by which it was found.
    case user(id: Int64, keyHash: KeyHash?)
    case rejected(QuarantineReason)

    /// The first identity that is present decides; the others must agree.
    ///
    /// A key that is present and unknown never falls through to a number, but for the one text with two readings
    /// (``IdentityClaim/isKeyOptional``).
    init(_ claim: IdentityClaim, occurredAt: Timestamp, holders: KeyHolders) {
        let numbers = [claim.laravelUserID, claim.userID].compactMap { $0 }
        if let (holder, hash) = holders.holder(of: claim.keyHashes, at: occurredAt) {
            // A documented event's numeric `user_id` that is somebody's key is a key, not also a number.
            let others = claim.isKeyOptional ? [claim.laravelUserID].compactMap { $0 } : numbers
            self = others.allSatisfy { $0 == holder } ? .user(id: holder, keyHash: hash) : .rejected(.identityConflict)
        } else if !claim.keyHashes.isEmpty, !claim.isKeyOptional {
            self = .rejected(.unknownKey)
        } else if let first = numbers.first {
            self = numbers.allSatisfy { $0 == first } ? .user(id: first, keyHash: nil) : .rejected(.identityConflict)
        } else {
            self = .rejected(.missingIdentity)
        }
    }
}
