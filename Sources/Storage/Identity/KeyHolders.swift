import Domain

/// What we know at one moment of who holds, or held, some keys.
struct KeyHolders: Hashable {
    /// One user's time with one key, `[from, to)`; open where it is the user's present key.
    struct Tenure: Hashable {
        let userID: Int64
        let from: Timestamp
        let to: Timestamp?
    }

    private(set) var tenures: [KeyHash: [Tenure]] = [:]
    /// Keys whose present holder, as we know it, no longer holds it: `users` was changed since our last look.
    private(set) var stale: Set<KeyHash> = []
    /// Those of the looked-up numbers (``contestedIDs(of:)``) that are users' ids.
    var knownIDs: Set<Int64> = []

    mutating func insert(_ tenure: Tenure, of hash: KeyHash, isStale: Bool) {
        tenures[hash, default: []].append(tenure)
        if isStale { stale.insert(hash) }
    }

    /// The claims by a key about which a look at `users` could tell more: nobody holds it now, as far as we know.
    func uncertain(of claims: [IdentityClaim]) -> [IdentityClaim] {
        claims.filter { claim in !claim.keyHashes.isEmpty && !claim.keyHashes.contains(where: isHeld) }
    }

    /// Whether only a look at everybody could tell: a key may have been stated as a hash, or its holder has it no longer.
    func needKeySync(for claims: [IdentityClaim]) -> Bool {
        uncertain(of: claims).contains { $0.mayBeHash || !stale.isDisjoint(with: $0.keyHashes) }
    }

    private func isHeld(_ hash: KeyHash) -> Bool {
        !stale.contains(hash) && tenures[hash]?.contains { $0.to == nil } == true
    }

    /// The numeric `user_id`s beside another `laravel_user_id`: whether they are users' ids decides which of the two
    /// stands.
    static func contestedIDs(of claims: [IdentityClaim]) -> Set<Int64> {
        Set(
            claims.lazy.filter { $0.isKeyOptional && $0.laravelUserID != nil && $0.userID != $0.laravelUserID }
                .compactMap(\.userID))
    }

    /// Whether nobody has the `user_id` of a documented event, which no key of the moment is: it is no user's id
    /// either, and not the number that `laravel_user_id` repeats.
    func isUserIDUnknown(of claim: IdentityClaim) -> Bool {
        guard !claim.keyHashes.isEmpty else { return false }
        guard claim.isKeyOptional, let id = claim.userID else { return true }
        return id != claim.laravelUserID && !knownIDs.contains(id)
    }

    /// The users who hold or held one of `hashes`.
    func everHeld(_ hashes: [KeyHash]) -> Set<Int64> {
        Set(hashes.flatMap { tenures[$0] ?? [] }.map(\.userID))
    }

    /// The user who held the first of `hashes` that anybody held at `moment`.
    func holder(of hashes: [KeyHash], at moment: Timestamp) -> (Int64, KeyHash)? {
        for hash in hashes {
            let tenure = tenures[hash]?.first { $0.from <= moment && ($0.to.map { moment < $0 } ?? true) }
            if let tenure { return (tenure.userID, hash) }
        }
        return nil
    }
}
