package import Domain
package import Postgres

/// The keys users hold and held, kept by their hashes (`metering.api_keys`).
///
/// `users.api_key` is Laravel's and holds the present key only. A look at it closes the tenures that ended and opens the
/// new ones; a key that lived and died between two looks is unknowable.
package enum KeyHistory {
    /// What we know of `hashes`; the join tells which present tenures `users` no longer confirms.
    static func holders(of hashes: [KeyHash], _ connection: Connection) throws -> KeyHolders {
        var holders = KeyHolders()
        guard !hashes.isEmpty else { return holders }
        let rows = try connection.query(
            """
            SELECT k.key_hash, k.user_id, \(unsafeSQL: Self.microseconds("k.valid_from")),
                   \(unsafeSQL: Self.microseconds("k.valid_to")),
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

    /// Looks at every user's key. A scan of `users`: call it at a bounded rate.
    package static func look(_ connection: Connection, now: Timestamp) throws {
        try look(connection, now: now, scope: nil)
    }

    /// Looks at the users who hold `keys` at present, through the unique index on `users.api_key`.
    static func look(for keys: [String], _ connection: Connection, now: Timestamp) throws {
        try look(connection, now: now, scope: keys.filter { !$0.utf8.contains(0) && $0.unicodeScalars.count <= 255 })
    }

    private static func look(_ connection: Connection, now: Timestamp, scope keys: [String]?) throws {
        if let keys {
            let rows = try connection.query(
                "SELECT id, api_key FROM public.users WHERE api_key = ANY(\(keys)::text[]::varchar[])")
            guard !rows.isEmpty else { return }
            let users = try rows.map { try $0.decode(0, as: Int64.self) }
            let hashes = try rows.map { KeyHash(of: try $0.decode(1, as: String.self)).bytes }
            try transfer(
                connection, now: now, users: "AND u.id = ANY(\(users)::bigint[])",
                tenures: "AND (k.user_id = ANY(\(users)::bigint[]) OR k.key_hash = ANY(\(hashes)::bytea[]))")
        } else {
            try transfer(connection, now: now, users: "", tenures: "")
        }
    }

    /// Ends the tenures that `users` no longer confirms and begins those it has and we have not.
    private static func transfer(
        _ connection: Connection, now: Timestamp, users: Query, tenures: Query
    ) throws {
        try connection.transaction { connection in
            // One look at a time: two would both begin the same tenure.
            try connection.execute("SELECT pg_advisory_xact_lock(hashtext('metering.api_keys'))")
            try connection.execute(
                """
                UPDATE metering.api_keys k SET valid_to = greatest(k.valid_from, \(now))
                WHERE k.valid_to IS NULL \(tenures)
                  AND NOT EXISTS (SELECT FROM public.users u
                                  WHERE u.id = k.user_id AND sha256(convert_to(u.api_key, 'UTF8')) = k.key_hash)
                """)
            try connection.execute(
                """
                INSERT INTO metering.api_keys (key_hash, user_id, valid_from)
                SELECT h.key_hash, u.id,
                       CASE WHEN EXISTS (SELECT FROM metering.api_keys k WHERE k.key_hash = h.key_hash)
                            THEN \(now) ELSE '-infinity' END
                FROM public.users u
                CROSS JOIN LATERAL (SELECT sha256(convert_to(u.api_key, 'UTF8')) AS key_hash) h
                WHERE u.api_key <> '' \(users)
                  AND NOT EXISTS (SELECT FROM metering.api_keys k
                                  WHERE k.key_hash = h.key_hash AND k.valid_to IS NULL)
                ON CONFLICT (key_hash, valid_from) DO UPDATE SET user_id = excluded.user_id, valid_to = NULL
                """)
        }
    }

    /// A `timestamptz` as microseconds since 1970; NULL for NULL and for infinity.
    private static func microseconds(_ column: String) -> String {
        "CASE WHEN isfinite(\(column)) THEN (extract(epoch FROM \(column)) * 1000000)::bigint END"
    }
}
