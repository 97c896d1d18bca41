import Domain
import Postgres
import Synchronization

/// Decides the user of an event from what the event states and what is known of keys. It is a pure function.
enum IdentityResolution: Hashable {
    /// The user, whose row the ingest statement still has to find, and the hash by which it was found.
    case user(id: Int64, keyHash: KeyHash?)
    /// The user that `laravel_user_id` names, if no user has the `user_id` of a documented event.
    case userByIDAlone(Int64)
    case rejected(QuarantineReason)

    /// The first stated identity decides. The others must agree.
    ///
    /// An unknown key from LiteLLM never falls back to an id. A documented event's unknown `user_id` falls back to
    /// `laravel_user_id` (`docs/api.md`). A key that another user ever held stays a conflict.
    init(_ event: UsageEvent, holders: KeyHolders) {
        let claim = event.identity
        let numbers = [claim.laravelUserID, claim.userID].compactMap { $0 }
        if let (holder, hash) = holders.holder(of: claim.keyHashes, at: event.occurredAt) {
            // A documented event's numeric `user_id` that is a user's key is not also an id.
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

/// The users who hold or held some keys, as known at one moment.
struct KeyHolders: Hashable {
    /// The time in which one user held one key, `[from, to)`. It has no end while the user holds the key.
    struct Tenure: Hashable {
        let userID: Int64
        let from: Timestamp
        let to: Timestamp?
    }

    private(set) var tenures: [KeyHash: [Tenure]] = [:]
    /// Keys whose known holder no longer has them, because `users` was changed since the last key sync.
    private(set) var stale: Set<KeyHash> = []
    /// The looked-up numbers (``contestedIDs(of:)``) that are ids of users.
    var knownIDs: Set<Int64> = []

    mutating func insert(_ tenure: Tenure, of hash: KeyHash, isStale: Bool) {
        tenures[hash, default: []].append(tenure)
        if isStale { stale.insert(hash) }
    }

    /// The claims by a key that no known user holds now. A look-up in `users` may find its user.
    func uncertain(of claims: [IdentityClaim]) -> [IdentityClaim] {
        claims.filter { claim in !claim.keyHashes.isEmpty && !claim.keyHashes.contains(where: isHeld) }
    }

    /// Whether only a key sync can resolve the claims: a key may be stated as a hash, or its holder no longer has it.
    func needKeySync(for claims: [IdentityClaim]) -> Bool {
        uncertain(of: claims).contains { $0.mayBeHash || !stale.isDisjoint(with: $0.keyHashes) }
    }

    private func isHeld(_ hash: KeyHash) -> Bool {
        !stale.contains(hash) && tenures[hash]?.contains { $0.to == nil } == true
    }

    /// The numeric `user_id`s of claims whose `laravel_user_id` differs. Those that are ids of users decide.
    static func contestedIDs(of claims: [IdentityClaim]) -> Set<Int64> {
        Set(
            claims.lazy.filter { $0.isKeyOptional && $0.laravelUserID != nil && $0.userID != $0.laravelUserID }
                .compactMap(\.userID))
    }

    /// Whether the `user_id` of a documented event differs from `laravel_user_id` and is no id of a user. The caller
    /// knows that it is no key either.
    func isUserIDUnknown(of claim: IdentityClaim) -> Bool {
        guard !claim.keyHashes.isEmpty else { return false }
        guard claim.isKeyOptional, let id = claim.userID else { return true }
        return id != claim.laravelUserID && !knownIDs.contains(id)
    }

    /// The users who hold or held one of `hashes`.
    func everHeld(_ hashes: [KeyHash]) -> Set<Int64> {
        Set(hashes.flatMap { tenures[$0] ?? [] }.map(\.userID))
    }

    /// The user who held, at `moment`, the first of `hashes` that a user held then.
    func holder(of hashes: [KeyHash], at moment: Timestamp) -> (Int64, KeyHash)? {
        for hash in hashes {
            let tenure = tenures[hash]?.first { $0.from <= moment && ($0.to.map { moment < $0 } ?? true) }
            if let tenure { return (tenure.userID, hash) }
        }
        return nil
    }
}

/// An event and its user. It is a class because it is turned into columns field by field. Copying the event for each
/// column would cost more than everything else.
final class AttributedEvent: Sendable {
    let event: UsageEvent
    let userID: Int64
    /// The hash by which the user was found, if by a key.
    let keyHash: KeyHash?
    /// Whether only `laravel_user_id` found the user. The flag is not stored in the event, because a quarantined event
    /// is attributed again.
    let isByIDAlone: Bool

    init(event: UsageEvent, userID: Int64, keyHash: KeyHash?, isByIDAlone: Bool = false) {
        self.event = event
        self.userID = userID
        self.keyHash = keyHash
        self.isByIDAlone = isByIDAlone
    }

    /// The flags of its row.
    var flags: [UsageEvent.Flag] { isByIDAlone ? event.flags + [.attributedByID] : event.flags }
}

/// Finds the user of each event of a batch.
struct EventAttribution: Sendable {
    /// The result for one event, before the transaction that stores it.
    enum Outcome: Sendable {
        case event(AttributedEvent)
        case rejected(Rejection)

        var event: AttributedEvent? {
            if case .event(let event) = self { event } else { nil }
        }

        var rejection: Rejection? {
            if case .rejected(let rejection) = self { rejection } else { nil }
        }

        /// The result when PostgreSQL refused the look-up of the user.
        static func refused(_ item: IngestItem, _ error: PostgresError) -> Outcome {
            switch item.result {
            case .success(let event): .rejected(Rejection(error, of: event))
            case .failure(let rejection): .rejected(rejection)
            }
        }
    }

    let pool: ConnectionPool
    let now: @Sendable () -> Timestamp
    private let keySync = KeySync()

    init(pool: ConnectionPool, now: @escaping @Sendable () -> Timestamp) {
        self.pool = pool
        self.now = now
    }

    /// The outcome of each item, in order.
    ///
    /// A key that is unknown, or whose holder changed, is looked up. A key in clear text is found by an index of
    /// `users`. A hash needs a key sync, which runs at most once a second. So a key that is still unknown appeared less
    /// than a second ago, and a flood of unknown keys costs neither scans nor memory.
    func attribute(_ items: [IngestItem]) async throws -> [Outcome] {
        let claims = items.compactMap { item in try? item.result.get().identity }
        let hashes = Array(Set(claims.flatMap(\.keyHashes)))
        let (now, keySync) = (now(), keySync)
        let holders = try await pool.withConnection { connection in
            var holders = try KeyHistory.holders(of: hashes, connection)
            let presented = holders.uncertain(of: claims).compactMap(\.presentedKey?.text)
            if !presented.isEmpty, try KeyHistory.sync(for: presented, connection, now: now) {
                holders = try KeyHistory.holders(of: hashes, connection)
            }
            if holders.needKeySync(for: claims) {
                try keySync.refresh(connection, now: now)
                holders = try KeyHistory.holders(of: hashes, connection)
            }
            holders.knownIDs = try KeyHistory.knownIDs(of: claims, connection)
            return holders
        }
        return items.map { Self.outcome(of: $0, holders) }
    }

    /// The outcome of each item by the known keys only, without a look-up in `users`.
    static func attribute(_ items: [IngestItem], _ connection: Connection) throws -> [Outcome] {
        let claims = items.compactMap { try? $0.result.get().identity }
        var holders = try KeyHistory.holders(of: Array(Set(claims.flatMap(\.keyHashes))), connection)
        holders.knownIDs = try KeyHistory.knownIDs(of: claims, connection)
        return items.map { outcome(of: $0, holders) }
    }

    private static func outcome(of item: IngestItem, _ holders: KeyHolders) -> Outcome {
        switch item.result {
        case .failure(let rejection): .rejected(rejection)
        case .success(let event): outcome(of: event, holders)
        }
    }

    private static func outcome(of event: UsageEvent, _ holders: KeyHolders) -> Outcome {
        switch IdentityResolution(event, holders: holders) {
        case .user(let id, let keyHash):
            .event(AttributedEvent(event: event, userID: id, keyHash: keyHash))
        case .userByIDAlone(let id):
            .event(AttributedEvent(event: event, userID: id, keyHash: nil, isByIDAlone: true))
        case .rejected(let reason):
            .rejected(Rejection(reason, of: event))
        }
    }
}

/// Runs key syncs, one at a time and at most once a second.
private final class KeySync: Sendable {
    private let throttle = Throttle(every: .seconds(1))
    private let lock = Mutex(())

    /// Returns when a key sync that began less than a second ago is done. It blocks the connection's own thread
    /// meanwhile. A writer waits for a running key sync before it rejects an unknown key.
    func refresh(_ connection: Connection, now: Timestamp) throws {
        try lock.withLock { _ in
            try throttle.whenDue(at: now) { try KeyHistory.sync(connection, now: now) }
        }
    }
}
