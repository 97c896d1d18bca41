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

    mutating func insert(_ tenure: Tenure, of hash: KeyHash, isStale: Bool) {
        tenures[hash, default: []].append(tenure)
        if isStale { stale.insert(hash) }
    }

    /// The claims by a key about which a look at `users` could tell more: nobody holds it now, as far as we know.
    func uncertain(of claims: [IdentityClaim]) -> [IdentityClaim] {
        claims.filter { claim in !claim.keyHashes.isEmpty && !claim.keyHashes.contains(where: isHeld) }
    }

    /// Whether only a look at everybody could tell: a key may have been stated as a hash, or its holder has it no longer.
    func needLookAtEverybody(for claims: [IdentityClaim]) -> Bool {
        uncertain(of: claims).contains { $0.mayBeHash || !stale.isDisjoint(with: $0.keyHashes) }
    }

    private func isHeld(_ hash: KeyHash) -> Bool {
        !stale.contains(hash) && tenures[hash]?.contains { $0.to == nil } == true
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
