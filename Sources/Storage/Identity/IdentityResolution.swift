import Domain

/// Who made a call, judged from what the event states and what we know of keys (`design.md` §4, Identity). Pure.
enum IdentityResolution: Hashable {
    /// The user, whose row the ingest statement still has to find, and the hash by which it was found.
    case user(id: Int64, keyHash: KeyHash?)
    /// The user that `laravel_user_id` names, where nobody has the `user_id` of a documented event.
    case userByIDAlone(Int64)
    case rejected(QuarantineReason)

    /// The first identity that is present decides; the others must agree.
    ///
    /// LiteLLM's unknown key never falls through to a number. A documented event's unknown `user_id` falls back to
    /// `laravel_user_id`, as the product brief promises; a key that another user ever held stays a conflict.
    init(_ event: UsageEvent, holders: KeyHolders) {
        let claim = event.identity
        let numbers = [claim.laravelUserID, claim.userID].compactMap { $0 }
        if let (holder, hash) = holders.holder(of: claim.keyHashes, at: event.occurredAt) {
            // A documented event's numeric `user_id` that is somebody's key is a key, not also a number.
            let others = claim.isKeyOptional ? [claim.laravelUserID].compactMap { $0 } : numbers
            self = others.allSatisfy { $0 == holder } ? .user(id: holder, keyHash: hash) : .rejected(.identityConflict)
        } else if event.shape == .documented, let id = claim.laravelUserID, holders.isUserIDUnknown(of: claim) {
            let others = holders.everHeld(claim.keyHashes).subtracting([id])
            self = others.isEmpty ? .userByIDAlone(id) : .rejected(.identityConflict)
        } else if !claim.keyHashes.isEmpty, !claim.isKeyOptional {
            self = .rejected(.unknownKey)
        } else if let first = numbers.first {
            self = numbers.allSatisfy { $0 == first } ? .user(id: first, keyHash: nil) : .rejected(.identityConflict)
        } else {
            self = .rejected(.missingIdentity)
        }
    }
}
