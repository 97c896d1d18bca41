package import Domain
package import Postgres

/// The database of this installation. It is identified by the OIDs of Laravel's tables and the highest ids seen.
package enum Installation {
    /// The database is not this installation's. Services stop, because the same ids may belong to other users.
    package struct Mismatch: Error, Hashable, CustomStringConvertible {
        /// The tables whose sequence is below their largest id, as after a restore of rows only. Then ids do not begin
        /// again, but would be given out twice.
        let tooLowSequences: [String]

        package var description: String {
            tooLowSequences.isEmpty ? Self.otherTables : Self.explanation(of: tooLowSequences)
        }

        /// The instruction how to correct the sequences of `tables`.
        static func explanation(of tables: [String]) -> String {
            let statements = tables.map(SequenceDiagnosis.setval).joined(separator: " ")
            return """
                The sequence of the ids of \(tables.joined(separator: " and ")) lies before the largest id there, \
                as after a restore \
                that left the sequences out: the next ids are taken. Run: \(statements)
                """
        }

        private static let otherTables =
            """
            Laravel's tables users and api_logs are not those this installation belongs to (dropped and made again, \
            or a \
            restored database). If this is intended, run 'codexflow adopt'.
            """

        /// The error, with tables whose sequence is too low.
        package init(tooLowSequences: [String] = []) {
            self.tooLowSequences = tooLowSequences
        }
    }

    /// The last drawn ids as `user_id` and `log_id`: 0 if none was drawn or the sequence is missing.
    static let seenIDs: Query = """
        SELECT coalesce(max(s.last_value) FILTER (WHERE s.sequencename = 'users_id_seq'), 0) AS user_id,
               coalesce(max(s.last_value) FILTER (WHERE s.sequencename = 'api_logs_id_seq'), 0) AS log_id,
               count(*) = 2 AS are_there
        FROM pg_sequences s
        WHERE s.schemaname = 'public' AND s.sequencename IN ('users_id_seq', 'api_logs_id_seq')
        """

    /// Records the tables at the first migration, with what Laravel has counted there. Later calls change nothing.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when a transaction on `api_logs` stayed open for 5 s.
    static func recordIfNew(_ connection: Connection, now: Timestamp) throws {
        guard try areTablesThere(connection),
            try connection.query("SELECT FROM metering.installation").isEmpty
        else { return }
        let logID = try LaravelUsage.committedLogID(connection)
        try connection.transaction { connection in
            let isNew = try connection.execute(
                """
                INSERT INTO metering.installation (
                    users_table, api_logs_table, highest_user_id, highest_log_id, counted_log_id, counted_at,
                    adopted_at)
                SELECT to_regclass('public.users')::oid, to_regclass('public.api_logs')::oid, seen.user_id, seen.log_id,
                       \(logID), \(now), \(now)
                FROM (\(seenIDs)) seen
                ON CONFLICT DO NOTHING
                """)
            if isNew == 1 { try LaravelUsage.seed(upTo: logID, connection, now: now) }
        }
    }

    /// Checks, at the start of a service and once a second, that the tables are the same and that ids of users are not
    /// below those seen. The ids of `api_logs` may begin again (``IDLine``).
    ///
    /// - Throws: ``Mismatch``, also if the tables are missing.
    package static func require(_ connection: Connection) throws {
        let rows = try connection.query(
            """
            SELECT s.is_intact AND seen.are_there AND i.highest_user_id <= seen.user_id
            FROM metering.installation_state s, metering.installation i, (\(seenIDs)) seen
            """)
        guard try rows.first?.decode(0, as: Bool?.self) == true else {
            throw Mismatch(tooLowSequences: try SequenceDiagnosis.tooLow(connection, among: ["users", "api_logs"]))
        }
    }

    /// Records the highest ids seen, so that ids that begin again are noticed even with the same OIDs.
    ///
    /// - Throws: ``PostgresError``.
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

    /// Whether Laravel's tables and their sequences exist, of this installation or another.
    static func areTablesThere(_ connection: Connection) throws -> Bool {
        let rows = try connection.query(
            """
            SELECT to_regclass('public.users') IS NOT NULL AND to_regclass('public.api_logs') IS NOT NULL
                AND seen.are_there
            FROM (\(seenIDs)) seen
            """)
        return try rows.first?.decode(0, as: Bool.self) ?? false
    }
}

extension Installation {
    /// The result of `adopt`.
    package enum Adoption: Sendable, Hashable {
        /// Nothing had changed.
        case unchanged
        /// The same users and rows are in new tables, such as a restored dump. History was kept.
        case sameIDs
        /// The users and rows are others. History was discarded.
        case discardedHistory
    }

    /// The history may belong to other users. The operator must confirm that it is discarded.
    package struct HistoryAtRisk: Error, Hashable, CustomStringConvertible {
        /// The tables whose sequence is too low, as in ``Mismatch``.
        let tooLowSequences: [String]

        /// The error, with tables whose sequence is too low.
        package init(tooLowSequences: [String] = []) {
            self.tooLowSequences = tooLowSequences
        }

        package var description: String {
            tooLowSequences.isEmpty
                ? Self.otherRows : Mismatch.explanation(of: tooLowSequences) + " Then run 'codexflow adopt' again."
        }

        private static let otherRows =
            """
            The rows of users and api_logs are not those already seen: ids started again, or the same ids and keys are \
            other people's. This installation's events, counters and keys do not belong to them. Run \
            'codexflow adopt --discard-history' to drop them, or restore the right database.
            """
    }

    /// The tables are known, so no history is to be discarded.
    package struct NothingToDiscard: Error, Hashable, CustomStringConvertible {
        package var description: String {
            "Laravel's tables are those this installation belongs to: there is no history to discard."
        }
    }

    /// Laravel's tables are missing, so there is nothing to adopt.
    package struct TablesMissing: Error, Hashable, CustomStringConvertible {
        package var description: String {
            "Laravel's tables users and api_logs are missing. Run Laravel's migrations, then 'codexflow adopt' again."
        }
    }

    /// Records the present tables as this installation's. If history is discarded, the counters begin again with what
    /// Laravel has counted.
    ///
    /// - Throws: ``HistoryAtRisk`` if the rows are not plausibly the same and `discardingHistory` is false,
    ///   ``NothingToDiscard`` if it is true and nothing had changed, ``TablesMissing``, ``PostgresError``.
    package static func adopt(
        _ connection: Connection, discardingHistory: Bool, now: Timestamp
    ) throws -> Adoption {
        do {
            try require(connection)
        } catch is Mismatch {
            return try adoptOthers(connection, discardingHistory: discardingHistory, now: now)
        }
        guard !discardingHistory else { throw NothingToDiscard() }
        return .unchanged
    }

    private static func adoptOthers(
        _ connection: Connection, discardingHistory: Bool, now: Timestamp
    ) throws -> Adoption {
        guard try areTablesThere(connection) else { throw TablesMissing() }
        try recordIfNew(connection, now: now)
        let logID = try discardingHistory ? LaravelUsage.committedLogID(connection) : nil
        return try connection.transaction { connection in
            if let logID {
                try discardHistory(upTo: logID, connection, now: now)
            } else {
                guard try hasSameRows(connection) else {
                    throw HistoryAtRisk(
                        tooLowSequences: try SequenceDiagnosis.tooLow(connection, among: ["users", "api_logs"]))
                }
                try IDLine.adoptRows(connection)
            }
            try connection.execute(
                """
                UPDATE metering.installation i
                SET users_table = to_regclass('public.users')::oid,
                    api_logs_table = to_regclass('public.api_logs')::oid,
                    highest_user_id = seen.user_id, highest_log_id = seen.log_id,
                    counted_log_id = coalesce(\(logID as Int64?)::bigint, i.counted_log_id),
                    counted_at = CASE WHEN \(logID as Int64?)::bigint IS NULL THEN i.counted_at ELSE \(now) END,
                    adopted_at = \(now)
                FROM (\(seenIDs)) seen
                """)
            return logID == nil ? .sameIDs : .discardedHistory
        }
    }

    /// Empties our tables of what belongs to users and logs, and counts usage anew from Laravel's logs up to `logID`.
    private static func discardHistory(upTo logID: Int64, _ connection: Connection, now: Timestamp) throws {
        try connection.execute(
            """
            TRUNCATE metering.events, metering.api_keys, metering.quota_usage, metering.quota_deltas,
                metering.user_limits, metering.user_models, metering.unverified_registrations,
                metering.spools, metering.quarantine, metering.denied_calls, metering.key_arrivals,
                metering.withdrawn_events,
                metering.rollup_15m, metering.rollup_day, metering.rollup_span, metering.rollup_dimension
            """)
        try connection.execute(
            """
            UPDATE metering.rollup_watermark
            SET event_log_id = 0, other_log_id = 0, commit_horizon = 0, next_horizon = NULL,
                awaited_transactions = NULL, day_boundary = -2147483648, sealed_before = '-infinity',
                logs_sealed_before = '-infinity', passed_at = NULL, passed_rows = NULL, pass_ms = NULL
            """)
        try IDLine.reset(connection)
        try LaravelUsage.seed(upTo: logID, connection, now: now)
    }

    /// Whether the users and rows are plausibly the same: ids go on, no known key belongs to another user, none of the
    /// newest events has another event's row, and one of them has its own row (unless `api_logs` is empty).
    ///
    /// Event keys made from idempotency keys have no time and come after all others, so they are a sample of their own.
    private static func hasSameRows(_ connection: Connection) throws -> Bool {
        let rows = try connection.query(
            """
            WITH sample AS (
                (SELECT api_log_id, user_id, occurred_at FROM metering.events
                 WHERE event_key < 'ffff0000-0000-0000-0000-000000000000' ORDER BY event_key DESC LIMIT 1000)
                UNION ALL
                (SELECT api_log_id, user_id, occurred_at FROM metering.events
                 WHERE event_key >= 'ffff0000-0000-0000-0000-000000000000' ORDER BY event_key DESC LIMIT 1000)
            ), compared AS (
                SELECT l.id IS NOT NULL AS is_there,
                       (l.user_id, l.created_at)
                       IS NOT DISTINCT FROM (s.user_id, date_trunc('second', s.occurred_at AT TIME ZONE 'UTC'))
                           AS is_same
                FROM sample s
                LEFT JOIN public.api_logs l
                    ON l.id = \(IDLine.id(of: "s.api_log_id")) AND metering.log_position(l.id) = s.api_log_id
            )
            SELECT i.highest_user_id <= seen.user_id AND i.highest_log_id <= seen.log_id
                   AND (SELECT coalesce(bool_and(c.is_same) FILTER (WHERE c.is_there), true)
                               AND (coalesce(bool_or(c.is_there), true) OR NOT EXISTS (SELECT FROM public.api_logs))
                        FROM compared c)
                   AND NOT EXISTS (
                       SELECT FROM metering.api_keys k
                       JOIN public.users u ON sha256(convert_to(u.api_key, 'UTF8')) = k.key_hash
                       WHERE k.valid_to IS NULL AND u.id <> k.user_id)
            FROM metering.installation i, (\(seenIDs)) seen
            """)
        return try rows.first?.decode(0, as: Bool.self) ?? false
    }
}
