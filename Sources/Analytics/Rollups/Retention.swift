package import Domain
package import Postgres
import Storage

/// Ends the keeping of old events: whole months by `DROP TABLE`, the few that lie in no month row by row.
///
/// The sums keep what is dropped, so an event goes only when it is in them, and what is dropped is sealed
/// (`migrations/0007_usage.sql`).
package struct EventRetention: Sendable {
    /// What was removed.
    package struct Outcome: Sendable, Hashable {
        /// Names of the dropped months.
        package var months: [String] = []
        /// Events deleted one by one.
        package var rows = 0
        /// Months that are old enough but hold events that are not in the sums yet.
        package var unfolded: [String] = []
    }

    /// Events of one deletion.
    private static let batch = 10_000

    private let pool: ConnectionPool

    package init(pool: ConnectionPool) {
        self.pool = pool
    }

    /// Removes months that ended `days` days before `now`.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when a month was in use for a second: ingest must not wait
    ///   longer.
    package func run(days: Int, now: Timestamp) async throws -> Outcome {
        let end: Query =
            "date_trunc('month', (\(now) - \(days)::integer * interval '1 day') AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
        var outcome = Outcome()
        for month in try await pool.withConnection({ try Self.months(before: end, $0) }) {
            let isDropped = try await pool.transaction { try Self.drop(month, $0) }
            if isDropped { outcome.months.append(month) } else { outcome.unfolded.append(month) }
        }
        // Keys that senders name carry no time, and a month that was missing is in the default partition.
        for partition in ["events_named", "events_default"] {
            outcome.rows += try await delete(from: partition, before: end)
        }
        return outcome
    }

    private static func months(before end: Query, _ connection: Connection) throws -> [String] {
        try connection.query(
            #"""
            SELECT c.relname
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'metering.events'::regclass AND c.relname ~ '^events_\d{4}_\d\d$'
              AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= (\#(end)) AT TIME ZONE 'UTC'
            ORDER BY c.relname
            """#
        ).map { try $0.decode(0, as: String.self) }
    }

    /// Seals and drops a month; `false` where an event of it is not in the sums.
    private static func drop(_ month: String, _ connection: Connection) throws -> Bool {
        let state = try RollupState.hold(connection)
        try connection.executeScript("SET LOCAL lock_timeout = '1s'")
        let table = Query(unsafeSQL: "metering.\(month)")
        try connection.execute("LOCK TABLE \(table) IN ACCESS EXCLUSIVE MODE")
        let isRolledUp = try connection.query(
            "SELECT coalesce(max(api_log_id), 0) <= \(state.eventWatermark) FROM \(table)"
        )[0].decode(0, as: Bool.self)
        guard isRolledUp else { return false }
        try Seal.extend(
            to: """
                (to_date(right(\(month), 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC'
                """, connection)
        try connection.execute("DROP TABLE \(table)")
        return true
    }

    private func delete(from partition: String, before end: Query) async throws -> Int {
        let table = Query(unsafeSQL: "metering.\(partition)")
        var (after, rows): (Int64, Int) = (0, 0)
        while true {
            let (last, deleted) = try await pool.transaction { [after] connection in
                let state = try RollupState.hold(connection)
                let ids: Query = "api_log_id > \(after) AND api_log_id <= \(state.eventWatermark)"
                let through = try connection.query(
                    """
                    SELECT max(x.api_log_id)
                    FROM (SELECT api_log_id FROM \(table) WHERE \(ids) ORDER BY 1 LIMIT \(Self.batch)) x
                    """
                )[0].decode(0, as: Int64?.self)
                guard let through else { return (nil as Int64?, 0) }
                let old: Query = "\(ids) AND api_log_id <= \(through) AND occurred_at < \(end)"
                let deleted = try connection.execute("DELETE FROM \(table) WHERE \(old)")
                if deleted > 0 { try Seal.extend(to: end, connection) }
                return (through, deleted)
            }
            rows += deleted
            guard let last else { return rows }
            after = last
        }
    }
}

/// The moment before which raw rows are gone by retention.
enum Seal {
    /// Moves it up to `moment`, for the deletion in the same transaction.
    static func extend(to moment: Query, _ connection: Connection) throws {
        try connection.execute(
            "UPDATE metering.rollup_watermark SET sealed_before = greatest(sealed_before, \(moment))")
    }
}

/// Deletes old rows of Laravel's `api_logs`, when an operator asks for it, and never one that is not in the sums.
package struct LogRetention: Sendable {
    /// Ids of one transaction.
    private static let batch: Int64 = 5_000

    private let pool: ConnectionPool

    package init(pool: ConnectionPool) {
        self.pool = pool
    }

    /// Deletes the rows of UTC days that ended `days` days before `now`, and returns how many.
    ///
    /// `progress` gets the number of deleted rows and of ids that are left to check.
    ///
    /// - Throws: ``PostgresError``.
    package func run(days: Int, now: Timestamp, progress: (_ rows: Int, _ left: Int) -> Void) async throws -> Int {
        let end: Query = "date_trunc('day', (\(now) - \(days)::integer * interval '1 day') AT TIME ZONE 'UTC')"
        // Laravel goes on writing meanwhile; what is rolled up at the beginning is enough for one run.
        let last = try await pool.transaction { connection in
            let state = try RollupState.hold(connection)
            try Seal.extend(to: "(\(end)) AT TIME ZONE 'UTC'", connection)
            return state.watermark
        }
        var rows = 0
        for stretch in try await stretches(through: last) {
            var id = try await firstID(after: stretch.lowerBound, through: stretch.upperBound)
            while let first = id {
                let through = min(first + Self.batch - 1, stretch.upperBound)
                rows += try await pool.withConnection { connection in
                    try connection.execute(
                        """
                        DELETE FROM public.api_logs l
                        WHERE l.id >= \(first) AND l.id <= \(through) AND l.created_at < \(end)
                          AND metering.log_position(l.id) <= \(last)
                        """)
                }
                progress(rows, Int(stretch.upperBound - through))
                id = try await firstID(after: through, through: stretch.upperBound)
            }
        }
        return rows
    }

    /// The ids whose rows stand on the line up to `position`; not the first of each.
    private func stretches(through position: Int64) async throws -> [ClosedRange<Int64>] {
        try await pool.withConnection { connection in
            try connection.query("SELECT lower, upper FROM metering.id_ranges(0, \(position))").map { row in
                let (lower, upper) = try row.decode(Int64.self, Int64.self)
                return lower...upper
            }
        }
    }

    private func firstID(after id: Int64, through last: Int64) async throws -> Int64? {
        try await pool.withConnection { connection in
            try connection.query("SELECT min(id) FROM public.api_logs WHERE id > \(id) AND id <= \(last)")[0].decode(
                0, as: Int64?.self)
        }
    }
}

/// Deletes quarantined events that were resolved long ago. Open ones are never deleted.
package enum QuarantineRetention {
    private static let batch = 5_000

    /// Deletes entries that were received and resolved `days` days before `now`, and returns how many.
    ///
    /// - Throws: ``PostgresError``.
    package static func run(days: Int, now: Timestamp, _ connection: Connection) throws -> Int {
        var rows = 0
        while true {
            let deleted = try connection.execute(
                """
                DELETE FROM metering.quarantine
                WHERE id = ANY (ARRAY(
                    SELECT id FROM metering.quarantine
                    WHERE received_at < \(now) - \(days)::integer * interval '1 day'
                      AND resolved_at < \(now) - \(days)::integer * interval '1 day'
                    LIMIT \(batch)))
                """)
            rows += deleted
            if deleted < batch { return rows }
        }
    }
}
