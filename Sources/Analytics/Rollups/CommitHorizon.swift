import Postgres
import Storage

/// Finds up to which id every row of `api_logs` is committed or never will be, without blocking a writer
/// (`docs/architecture.md`, "The commit horizon").
///
/// A pass reads the value of the sequence and commits it as a mark. Then it lists the transactions that hold the
/// table's ROW EXCLUSIVE lock. A writer takes this lock before it draws an id. When these transactions have ended,
/// every id up to the mark is committed or never will be. The row of `rollup_watermark` keeps the mark and the
/// transactions, so the next pass, or the next process, can check whether they have ended.
///
/// The mark is committed before writers are listed. So a writer of ours that is not listed sees the mark. It notices
/// if the ids began again and it drew a lower one (``IDLine``).
package enum CommitHorizon {
    /// A transaction that may yet commit rows with ids already drawn.
    package struct Writer: Sendable, Hashable, CustomStringConvertible {
        /// `nil` of a prepared transaction, which has no process.
        package var processID: Int?
        package var application: String?
        /// When it began, RFC 3339 in UTC; `nil` where the role may not see it (`pg_read_all_stats`).
        package var since: String?

        package var description: String {
            guard let processID else { return "a prepared transaction (see pg_prepared_xacts)" }
            let name = application.map { $0.isEmpty ? "" : " (\($0))" } ?? ""
            return "process \(processID)\(name)" + (since.map { ", open since \($0)" } ?? "")
        }
    }

    /// The sequence caches ids. So a session can use an id that it drew before it took the lock.
    package struct CachedSequence: Error, Hashable, CustomStringConvertible {
        package var description: String {
            """
            The sequence api_logs_id_seq hands out ids in advance (CACHE above 1), so no id is ever known to be final. \
            Run: ALTER SEQUENCE api_logs_id_seq CACHE 1
            """
        }
    }

    /// What a step found.
    struct Step: Sendable {
        /// The writers that the pass waits for.
        var writers: [Writer] = []
        /// Whether a mark is committed whose writers are to be listed by the next step, at once.
        var hasNewMark = false
    }

    /// Advances the commit horizon as far as it is known now. Returns the writers that it waits for: none where all
    /// that was drawn before the pass is final.
    ///
    /// `isMarked` says whether the pass has set a mark of its own. A pass sets one mark only: under ingest, a
    /// second mark would have writers to wait for again.
    ///
    /// - Throws: ``CachedSequence``, ``IDLine/BeganAgain``, ``PostgresError``.
    static func advance(_ connection: Connection, isMarked: inout Bool) throws -> Step {
        guard try RollupState.take(connection) != nil else { return Step() }
        try listWritersOfMark(connection)
        let waitingFor = try writersOfMark(connection)
        guard waitingFor.isEmpty else { return Step(writers: waitingFor) }
        try reachMark(connection)
        let hasNewMark = try !isMarked && mark(connection)
        isMarked = true
        // Checked last, so that everything read above belongs to ids that did not begin again.
        try IDLine.require(connection)
        return Step(hasNewMark: hasNewMark)
    }

    /// Moves the commit horizon to the mark, whose writers have ended, and keeps a snapshot. The snapshot shows every
    /// row in the rollups, so it distinguishes one from a row whose id was given out again. It is taken also where
    /// nothing is marked, because rows may have been updated.
    private static func reachMark(_ connection: Connection) throws {
        try connection.execute(
            """
            UPDATE metering.rollup_watermark
            SET commit_horizon = greatest(commit_horizon, next_horizon), next_horizon = NULL,
                awaited_transactions = NULL, horizon_snapshot = pg_current_snapshot()
            """)
    }

    /// Sets a mark if ids were drawn after the commit horizon. Returns whether it did.
    private static func mark(_ connection: Connection) throws -> Bool {
        let rows = try connection.query(
            """
            SELECT coalesce(pg_sequence_last_value(s.seqrelid), 0), s.seqcache
            FROM pg_sequence s WHERE s.seqrelid = 'public.api_logs_id_seq'::regclass
            """)
        guard let (value, cache) = try rows.first?.decode(Int64.self, Int64.self) else { throw Installation.Mismatch() }
        guard cache == 1 else { throw CachedSequence() }
        let marked = try connection.execute(
            """
            UPDATE metering.rollup_watermark c
            SET next_horizon = \(value)::bigint + k.shift, awaited_transactions = NULL
            FROM metering.id_epochs k
            WHERE k.epoch = (SELECT max(o.epoch) FROM metering.id_epochs o)
              AND c.commit_horizon < \(value)::bigint + k.shift
            """)
        return marked > 0
    }

    private static func listWritersOfMark(_ connection: Connection) throws {
        try connection.execute(
            """
            UPDATE metering.rollup_watermark
            SET awaited_transactions = ARRAY(SELECT DISTINCT l.virtualtransaction FROM (\(writers)) l)
            WHERE next_horizon IS NOT NULL AND awaited_transactions IS NULL
            """)
    }

    /// The writers of the mark that still hold the lock. A transaction that was prepared meanwhile has another name, so
    /// any prepared one counts.
    static func writersOfMark(_ connection: Connection) throws -> [Writer] {
        let rows = try connection.query(
            """
            SELECT DISTINCT l.pid::bigint, a.application_name,
                   to_char(a.xact_start, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            FROM metering.rollup_watermark c
            JOIN (\(writers)) l ON l.virtualtransaction = ANY (c.awaited_transactions) OR l.pid IS NULL
            LEFT JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE c.next_horizon IS NOT NULL
            ORDER BY 3, 1
            """)
        return try rows.map { row in
            let (pid, application, since) = try row.decode(Int?.self, String?.self, String?.self)
            return Writer(processID: pid, application: application, since: since)
        }
    }

    /// The transactions that write to the table now: name and process, which a prepared one has not.
    static let writers: Query = """
        SELECT k.virtualtransaction, k.pid FROM pg_locks k
        WHERE k.locktype = 'relation' AND k.relation = 'public.api_logs'::regclass AND k.mode = 'RowExclusiveLock'
          AND k.granted AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
}
