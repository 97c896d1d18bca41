import Domain
import Postgres
import Synchronization

/// Finds the user of each event of a batch.
struct EventAttribution: Sendable {
    /// What is known of an event before the transaction that stores it.
    enum Outcome: Sendable {
        case event(AttributedEvent)
        case rejected(Rejection)

        var event: AttributedEvent? {
            if case .event(let event) = self { event } else { nil }
        }

        var rejection: Rejection? {
            if case .rejected(let rejection) = self { rejection } else { nil }
        }

        /// PostgreSQL refused to say who made the call.
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
    /// A key we do not know, or whose holder changed, makes us look: at the users who hold the keys presented in clear
    /// (an index look-up), and, for hashes, at all users, but at most once a second: whatever was unknown then and is
    /// presented now appeared less than a second ago. So a flood of unknown keys costs neither scans nor memory.
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

    /// The outcome of each item as far as the keys are known that users hold; nobody looks for keys in `users`.
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

/// The look at all users' keys, one at a time and at most once a second.
private final class KeySync: Sendable {
    private let throttle = Throttle(every: .seconds(1))
    private let lock = Mutex(())

    /// Returns when a look that began less than a second ago is done. Blocks a connection's own thread meanwhile: who did not
    /// wait for another writer's look would take its keys for unknown.
    func refresh(_ connection: Connection, now: Timestamp) throws {
        try lock.withLock { _ in
            try throttle.whenDue(at: now) { try KeyHistory.sync(connection, now: now) }
        }
    }
}
