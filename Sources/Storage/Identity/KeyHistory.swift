package import Domain
package import Postgres

/// The present and former keys of users, stored as hashes in `metering.api_keys`. Laravel's `users.api_key` has only
/// the present key. A key sync closes the tenures that ended and opens the new ones. A key that came and went between
/// two key syncs stays unknown.
package enum KeyHistory {
    /// The holders of `hashes`. The join finds present tenures that `users` no longer confirms.
    static func holders(of hashes: [KeyHash], _ connection: Connection) throws -> KeyHolders {
        var holders = KeyHolders()
        guard !hashes.isEmpty else { return holders }
        let rows = try connection.query(
            """
            SELECT k.key_hash, k.user_id, \(microseconds: "k.valid_from"), \(microseconds: "k.valid_to"),
                   k.valid_to IS NULL AND sha256(convert_to(u.api_key, 'UTF8')) IS DISTINCT FROM k.key_hash
            FROM metering.api_keys k
            LEFT JOIN public.users u ON u.id = k.user_id
            WHERE k.key_hash = ANY(\(hashes.map(\.bytes))::bytea[])
            """)
        for row in rows {
            let (hash, user, from, to, isStale) = try row.decode(
                [UInt8].self, Int64.self, Int64?.self, Int64?.self, Bool.self)
            guard let hash = KeyHash(bytes: hash) else { continue }
            let tenure = KeyHolders.Tenure(
                userID: user, from: Timestamp(microseconds: from ?? .min), to: to.map(Timestamp.init(microseconds:)))
            holders.insert(tenure, of: hash, isStale: isStale)
        }
        return holders
    }

    /// The ``KeyHolders/contestedIDs(of:)`` of `claims` that are ids of users. Without contested ids it sends no
    /// statement.
    static func knownIDs(of claims: [IdentityClaim], _ connection: Connection) throws -> Set<Int64> {
        let ids = KeyHolders.contestedIDs(of: claims).sorted()
        guard !ids.isEmpty else { return [] }
        let rows = try connection.query("SELECT id FROM public.users WHERE id = ANY(\(ids)::bigint[])")
        return Set(try rows.map { try $0.decode(0, as: Int64.self) })
    }

    /// The number of users that ``syncNewest(_:now:)`` reads.
    private static let newest = 500

    /// A full key sync. It scans `users`, so call it at a bounded rate.
    ///
    /// - Throws: ``PostgresError``.
    package static func sync(_ connection: Connection, now: Timestamp) throws {
        try connection.transaction { try syncInTransaction($0, now: now) }
    }

    /// ``sync(_:now:)`` as a part of the transaction that is open.
    static func syncInTransaction(_ connection: Connection, now: Timestamp) throws {
        // One key sync runs at a time, also across processes. The next one sees what it found.
        try connection.execute("SELECT pg_advisory_xact_lock(hashtext('metering.api_keys'))")
        try transfer(connection, now: now, users: "", tenures: "", history: "")
    }

    /// Syncs the keys of the users with the highest ids, at a cost that does not depend on the number of users. So a
    /// new customer's key is known within a second.
    ///
    /// - Throws: ``PostgresError``.
    package static func syncNewest(_ connection: Connection, now: Timestamp) throws {
        // LIMIT 1 keeps the planner at one index look-up a user, however few users there are.
        let rows = try connection.query(
            """
            SELECT u.api_key
            FROM (SELECT id, api_key FROM public.users ORDER BY id DESC LIMIT \(newest)) u
            LEFT JOIN LATERAL (
                SELECT k.key_hash FROM metering.api_keys k WHERE k.user_id = u.id AND k.valid_to IS NULL LIMIT 1
            ) k ON true
            WHERE u.api_key <> '' AND sha256(convert_to(u.api_key, 'UTF8')) IS DISTINCT FROM k.key_hash
            """)
        guard !rows.isEmpty else { return }
        try sync(for: rows.map { try $0.decode(0, as: String.self) }, connection, now: now)
    }

    /// Syncs the users who hold `keys` at present, by the unique index on `users.api_key`; false if no user does.
    @discardableResult
    static func sync(for keys: [String], _ connection: Connection, now: Timestamp) throws -> Bool {
        guard let present = try Present.find(keys, connection) else { return false }
        try connection.transaction { try transfer(present, $0, now: now) }
        return true
    }

    /// ``sync(for:_:now:)`` as a part of the transaction that is open.
    static func syncInTransaction(for keys: [String], _ connection: Connection, now: Timestamp) throws {
        if let present = try Present.find(keys, connection) { try transfer(present, connection, now: now) }
    }

    /// The users who hold some keys at present.
    private struct Present {
        let users: [Int64]
        let hashes: [[UInt8]]

        /// The users who hold `keys`; `nil` if no user does.
        static func find(_ keys: [String], _ connection: Connection) throws -> Present? {
            let keys = keys.filter { !$0.utf8.contains(0) && $0.unicodeScalars.count <= 255 }
            let rows = try connection.query(
                "SELECT id, api_key FROM public.users WHERE api_key = ANY(\(keys)::text[]::varchar[])")
            guard !rows.isEmpty else { return nil }
            return Present(
                users: try rows.map { try $0.decode(0, as: Int64.self) },
                hashes: try rows.map { KeyHash(of: try $0.decode(1, as: String.self)).bytes })
        }
    }

    private static func transfer(_ present: Present, _ connection: Connection, now: Timestamp) throws {
        let (users, hashes) = (present.users, present.hashes)
        try transfer(
            connection, now: now, users: "AND u.id = ANY(\(users)::bigint[])",
            tenures: "AND (k.user_id = ANY(\(users)::bigint[]) OR k.key_hash = ANY(\(hashes)::bytea[]))",
            history: "WHERE k.key_hash = ANY(\(hashes)::bytea[])")
    }

    /// Ends the tenures that `users` no longer confirms, and begins those that are new in `users`.
    ///
    /// Another key sync, or a key that changes between the two statements, can make a tenure impossible for now. It is
    /// left to the next key sync and does not fail this one.
    private static func transfer(
        _ connection: Connection, now: Timestamp, users: Query, tenures: Query, history: Query
    ) throws {
        try connection.execute(
            """
            UPDATE metering.api_keys k SET valid_to = greatest(k.valid_from, \(now))
            WHERE k.valid_to IS NULL \(tenures)
              AND NOT EXISTS (SELECT FROM public.users u
                              WHERE u.id = k.user_id AND sha256(convert_to(u.api_key, 'UTF8')) = k.key_hash)
            """)
        // The history is grouped once and joined. A look-up for each user was a scan for each user. The arrival of a
        // new key schedules the events that wait for it.
        try connection.execute(
            """
            WITH seen AS (
                INSERT INTO metering.api_keys (key_hash, user_id, valid_from, seen_at)
                SELECT h.key_hash, h.id, CASE WHEN p.key_hash IS NULL THEN '-infinity' ELSE \(now) END, \(now)
                FROM (SELECT u.id, sha256(convert_to(u.api_key, 'UTF8')) AS key_hash
                      FROM public.users u WHERE u.api_key <> '' \(users)) h
                LEFT JOIN (SELECT k.key_hash, bool_or(k.valid_to IS NULL) AS is_held
                           FROM metering.api_keys k \(history) GROUP BY k.key_hash) p ON p.key_hash = h.key_hash
                WHERE p.is_held IS NOT TRUE
                ON CONFLICT DO NOTHING
                RETURNING key_hash
            )
            INSERT INTO metering.key_arrivals (key_hashes)
            SELECT array_agg(n.key_hash)
            FROM (SELECT key_hash, (row_number() OVER () - 1) / 1000 AS part FROM seen) n
            GROUP BY n.part
            """)
    }
}
