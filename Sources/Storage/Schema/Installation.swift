import Domain
package import Postgres

/// The database we belong to, known by the OIDs of Laravel's tables and the highest ids seen (`design.md` §5).
package enum Installation {
    /// Why the services stop: ids may start again, and old history would meet new people.
    package struct Mismatch: Error, Hashable, CustomStringConvertible {
        /// The tables whose sequence lies before their largest id, as after a restore of rows alone: ids do not start
        /// again then, but would be given out twice.
        let behind: [String]

        package var description: String {
            behind.isEmpty ? Self.otherTables : Self.explanation(of: behind)
        }

        /// What puts the sequences of `tables` right.
        static func explanation(of tables: [String]) -> String {
            let statements = tables.map(SequenceDiagnosis.setval).joined(separator: " ")
            return """
                The sequence of the ids of \(tables.joined(separator: " and ")) lies before the largest id there, as after a restore \
                that left the sequences out: the next ids are taken. Run: \(statements)
                """
        }

        private static let otherTables =
            """
            Laravel's tables users and api_logs are not those this installation belongs to (dropped and made again, or a \
            restored database). If this is intended, run 'codexflow adopt'.
            """

        package init(behind: [String] = []) {
            self.behind = behind
        }
    }

    /// The last ids drawn as `user_id` and `log_id`: 0 where none was, or where the sequence is missing.
    static let seenIDs: Query = """
        SELECT coalesce(max(s.last_value) FILTER (WHERE s.sequencename = 'users_id_seq'), 0) AS user_id,
               coalesce(max(s.last_value) FILTER (WHERE s.sequencename = 'api_logs_id_seq'), 0) AS log_id,
               count(*) = 2 AS are_there
        FROM pg_sequences s
        WHERE s.schemaname = 'public' AND s.sequencename IN ('users_id_seq', 'api_logs_id_seq')
        """

    /// Remembers the tables at the first migration, with what Laravel has counted there; later calls change nothing.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when a transaction on `api_logs` stayed open for 5 s.
    static func recordIfNew(_ connection: Connection, now: Timestamp) throws {
        guard try areTablesThere(connection),
            try connection.query("SELECT FROM metering.installation").isEmpty
        else { return }
        let logID = try LaravelUsage.settledLogID(connection)
        try connection.transaction { connection in
            let isNew = try connection.execute(
                """
                INSERT INTO metering.installation (
                    users_table, api_logs_table, highest_user_id, highest_log_id, counted_log_id, counted_at, adopted_at)
                SELECT to_regclass('public.users')::oid, to_regclass('public.api_logs')::oid, seen.user_id, seen.log_id,
                       \(logID), \(now), \(now)
                FROM (\(seenIDs)) seen
                ON CONFLICT DO NOTHING
                """)
            if isNew == 1 { try LaravelUsage.seed(upTo: logID, connection, now: now) }
        }
    }

    /// The guard at the start of a service and once a second: same tables, ids of users not below those seen. The ids
    /// of `api_logs` may begin again (``IDLine``).
    ///
    /// - Throws: ``Mismatch``, also where the tables are missing.
    package static func require(_ connection: Connection) throws {
        let rows = try connection.query(
            """
            SELECT s.is_intact AND seen.are_there AND i.highest_user_id <= seen.user_id
            FROM metering.installation_state s, metering.installation i, (\(seenIDs)) seen
            """)
        guard try rows.first?.decode(0, as: Bool?.self) == true else {
            throw Mismatch(behind: try SequenceDiagnosis.behind(connection, among: ["users", "api_logs"]))
        }
    }

    /// Remembers the highest ids seen, so that ids which start again are noticed even under the same OIDs.
    package static func recordHighestIDs(_ connection: Connection) throws {
        try connection.execute(
            """
            UPDATE metering.installation i
            SET highest_user_id = greatest(i.highest_user_id, seen.user_id),
                highest_log_id = greatest(i.highest_log_id, seen.log_id)
            FROM (\(seenIDs)) seen
            WHERE (SELECT is_intact FROM metering.installation_state)
              AND (i.highest_user_id < seen.user_id OR i.highest_log_id < seen.log_id)
            """)
    }

    /// Whether Laravel's tables and their sequences exist, whosesoever they are.
    static func areTablesThere(_ connection: Connection) throws -> Bool {
        let rows = try connection.query(
            """
            SELECT to_regclass('public.users') IS NOT NULL AND to_regclass('public.api_logs') IS NOT NULL AND seen.are_there
            FROM (\(seenIDs)) seen
            """)
        return try rows.first?.decode(0, as: Bool.self) ?? false
    }
}
