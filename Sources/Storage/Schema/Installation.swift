package import Domain
package import Postgres

/// The database we belong to, known by the OIDs of Laravel's tables and the highest ids seen (`design.md` §5).
package enum Installation {
    /// Why the services stop: ids may start again, and old history would meet new people.
    package struct Mismatch: Error, Hashable, CustomStringConvertible {
        package var description: String {
            """
            Laravel's tables users and api_logs are not those this installation belongs to (dropped and made again, or a \
            restored database). If this is intended, run 'codexflow adopt'.
            """
        }

        package init() {}
    }

    /// What `adopt` did.
    package enum Adoption: Sendable, Hashable {
        /// Nothing had changed.
        case unchanged
        /// The same people and rows in new tables, such as a restored dump: history is kept.
        case sameIDs
        /// Ids started again: history was discarded.
        case discardedHistory
    }

    /// Refused: ids started again, and history may only go when the operator says so.
    package struct HistoryAtRisk: Error, Hashable, CustomStringConvertible {
        package var description: String {
            """
            Ids of users or api_logs are below those already seen, so this installation's events, counters and keys \
            belong to other rows. Run 'codexflow adopt --discard-history' to drop them, or restore the right database.
            """
        }
    }

    /// Remembers the tables at the first migration; later calls change nothing.
    static func recordIfNew(_ connection: Connection, now: Timestamp) throws {
        try connection.execute(
            """
            INSERT INTO metering.installation
                (users_table, api_logs_table, highest_user_id, highest_log_id, adopted_at)
            SELECT to_regclass('public.users')::oid, to_regclass('public.api_logs')::oid, 0, 0, \(now)
            WHERE to_regclass('public.users') IS NOT NULL AND to_regclass('public.api_logs') IS NOT NULL
            ON CONFLICT DO NOTHING
            """)
    }

    /// The guard at the start of a service and once a second: same tables, ids not below those seen.
    ///
    /// - Throws: ``Mismatch``.
    package static func require(_ connection: Connection) throws {
        let rows = try connection.query(
            """
            SELECT s.is_intact AND i.highest_user_id <= u.last_value AND i.highest_log_id <= l.last_value
            FROM metering.installation_state s, metering.installation i,
                 public.users_id_seq u, public.api_logs_id_seq l
            """)
        guard try rows.first?.decode(0, as: Bool?.self) == true else { throw Mismatch() }
    }

    /// Remembers the highest ids seen, so that ids which start again are noticed even under the same OIDs.
    package static func recordHighestIDs(_ connection: Connection) throws {
        try connection.execute(
            """
            UPDATE metering.installation i
            SET highest_user_id = greatest(i.highest_user_id, seen.user_id),
                highest_log_id = greatest(i.highest_log_id, seen.log_id)
            FROM (SELECT (SELECT last_value FROM public.users_id_seq) AS user_id,
                         (SELECT last_value FROM public.api_logs_id_seq) AS log_id) seen
            WHERE (SELECT is_intact FROM metering.installation_state)
              AND (i.highest_user_id < seen.user_id OR i.highest_log_id < seen.log_id)
            """)
    }

    /// Makes the present tables ours.
    ///
    /// - Throws: ``HistoryAtRisk`` where ids started again and `discardingHistory` is false.
    package static func adopt(
        _ connection: Connection, discardingHistory: Bool, now: Timestamp
    ) throws -> Adoption {
        try connection.transaction { connection in
            do {
                try require(connection)
                return .unchanged
            } catch is Mismatch {}
            let rows = try connection.query(
                """
                SELECT i.highest_user_id <= u.last_value AND i.highest_log_id <= l.last_value
                FROM metering.installation i, public.users_id_seq u, public.api_logs_id_seq l
                """)
            let continues = try rows.first?.decode(0, as: Bool.self) ?? true
            guard continues || discardingHistory else { throw HistoryAtRisk() }
            if !continues {
                try connection.execute(
                    """
                    TRUNCATE metering.events, metering.api_keys, metering.quota_usage, metering.quota_deltas,
                        metering.user_limits, metering.quarantine, metering.denied_calls
                    """)
            }
            try connection.execute(
                """
                INSERT INTO metering.installation
                    (users_table, api_logs_table, highest_user_id, highest_log_id, adopted_at)
                SELECT to_regclass('public.users')::oid, to_regclass('public.api_logs')::oid,
                       u.last_value, l.last_value, \(now)
                FROM public.users_id_seq u, public.api_logs_id_seq l
                ON CONFLICT (singleton) DO UPDATE
                SET users_table = excluded.users_table, api_logs_table = excluded.api_logs_table,
                    highest_user_id = excluded.highest_user_id, highest_log_id = excluded.highest_log_id,
                    adopted_at = excluded.adopted_at
                """)
            return continues ? .sameIDs : .discardedHistory
        }
    }
}
