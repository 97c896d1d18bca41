package import Domain
package import Postgres
import Storage

/// How far the line of ids is rolled up, and how far it is final: the row of `metering.rollup_watermark`. Its ids are
/// positions on the line (``IDLine``).
package struct RollupState: Sendable, Hashable {
    /// Events up to this id are in the sums.
    package var eventWatermark: Int64
    /// Rows without an event up to this id are in the sums.
    package var laravelWatermark: Int64
    /// Every id up to this one is final.
    package var commitHorizon: Int64
    /// Quarter hours before this one are in `rollup_day`.
    package var dayBoundary: Int
    /// Events and logs before this quarter hour are gone by retention.
    package var sealedBefore: Int
    /// Rows of `api_logs` without an event, before this quarter hour, were removed when the ids began again.
    package var logsSealedBefore: Int
    /// Whether `rollup_span` is current. It is not where an older program, which does not know it, moved the state.
    package var hasSpans: Bool

    /// Up to where rows of `origin` are in the sums.
    package subscript(origin: LogOrigin) -> Int64 {
        switch origin {
        case .events: eventWatermark
        case .laravel: laravelWatermark
        }
    }

    /// The id up to which rows of both origins are in the sums.
    package var watermark: Int64 { min(eventWatermark, laravelWatermark) }

    package static func read(_ connection: Connection) throws -> RollupState {
        guard let state = try read(connection, locking: "") else { throw Missing() }
        return state
    }

    /// How many ids were drawn after the event watermark: as many events may be pending, or fewer.
    ///
    /// - Throws: ``PostgresError``.
    package static func pendingIDs(_ connection: Connection) throws -> Int64 {
        let rows = try connection.query(
            """
            SELECT coalesce(pg_sequence_last_value('public.api_logs_id_seq'), 0) + k.shift - c.event_log_id
            FROM metering.rollup_watermark c CROSS JOIN metering.id_epochs k
            WHERE k.epoch = (SELECT max(o.epoch) FROM metering.id_epochs o)
            """)
        return try rows.first?.decode(0) ?? 0
    }

    /// Reads the state and locks it until the transaction ends; `nil` where another worker has it.
    ///
    /// - Throws: ``PostgresError``.
    static func take(_ connection: Connection) throws -> RollupState? {
        try read(connection, locking: "FOR UPDATE SKIP LOCKED")
    }

    /// Moves a column of the state, which the transaction holds and whose spans are current.
    ///
    /// - Throws: ``PostgresError``.
    static func move(_ column: Query, to value: Int64, _ connection: Connection) throws {
        try connection.execute("UPDATE metering.rollup_watermark SET \(column) = \(value)")
        try noteSpans(connection)
    }

    /// Notes that `rollup_span` belongs to the state as it is.
    ///
    /// - Throws: ``PostgresError``.
    static func noteSpans(_ connection: Connection) throws {
        try connection.execute("UPDATE metering.rollup_watermark SET spans_through = \(place)")
    }

    private static let place: Query = "ARRAY[event_log_id, other_log_id, day_boundary]"

    /// Waits for a worker's step to end, at most 30 s, and locks the state until the transaction ends.
    ///
    /// - Throws: ``Missing``; ``PostgresError``, of SQLSTATE 55P03 when the step did not end.
    static func hold(_ connection: Connection) throws -> RollupState {
        try connection.executeScript("SET LOCAL lock_timeout = '30s'")
        guard let state = try read(connection, locking: "FOR UPDATE") else { throw Missing() }
        return state
    }

    /// The table's one row was deleted by somebody.
    package struct Missing: Error, CustomStringConvertible {
        package var description: String {
            "The row of metering.rollup_watermark is gone: restore it from a backup, or run 'codexflow adopt'."
        }
    }

    private static func read(_ connection: Connection, locking: Query) throws -> RollupState? {
        let rows = try connection.query("SELECT \(columns) FROM metering.rollup_watermark \(locking)")
        return try rows.first.map(RollupState.init)
    }

    /// What ``init(_:)`` reads.
    static let columns: Query = """
        event_log_id, other_log_id, commit_horizon, day_boundary,
        CASE WHEN isfinite(sealed_before) THEN metering.quarter_of(sealed_before) ELSE -2147483648 END,
        CASE WHEN isfinite(logs_sealed_before) THEN metering.quarter_of(logs_sealed_before) ELSE -2147483648 END,
        spans_through IS NOT DISTINCT FROM \(place)
        """
    /// How many these are.
    static let columnCount = 7
}

extension RollupState {
    /// Reads the first columns of `row`.
    init(_ row: Row) throws {
        (eventWatermark, laravelWatermark, commitHorizon, dayBoundary, sealedBefore, logsSealedBefore, hasSpans) =
            try row.decode(
                Int64.self, Int64.self, Int64.self, Int.self, Int.self, Int.self, Bool.self)
    }
}

/// How far logs are rolled up, for the operator.
package struct RollupStatus: Sendable {
    /// Names and values, a line each.
    package var lines: [(name: String, value: String)] {
        [
            (
                "rolled up to position",
                "\(state.eventWatermark) (events), \(state.laravelWatermark) (rows without an event)"
            ),
            ("final up to position", "\(state.commitHorizon)"),
            ("pending logs", "\(pendingLogs)"),
            ("seconds pending", "\(pendingSeconds ?? 0)"),
            ("days written up to", daysBefore ?? "none"),
            ("raw rows kept from", sealedBefore ?? "the beginning"),
            ("last whole pass", passedAt ?? "none"),
        ] + waitingFor.map { ("waiting for", "\($0)") }
    }

    /// Where the watermarks are.
    package let state: RollupState
    /// Logs after the watermarks, which each report adds up itself.
    package let pendingLogs: Int
    /// How long ago the first pending log was written; `nil` where there is none.
    package let pendingSeconds: Int?
    /// Open transactions that the commit horizon waits for.
    package let waitingFor: [CommitHorizon.Writer]
    private let daysBefore: String?
    private let sealedBefore: String?
    private let passedAt: String?

    /// Reads the watermarks and counts the pending logs, which takes a moment for each million.
    ///
    /// - Throws: ``RollupState/Missing``, ``PostgresError``.
    package static func read(now: Timestamp, on connection: Connection) throws -> RollupStatus {
        let state = try RollupState.read(connection)
        let end = Int64.max
        let format: Query = #"'YYYY-MM-DD"T"HH24:MI:SS"Z"'"#
        let row = try connection.query(
            """
            SELECT (SELECT count(*) FROM \(LogOrigin.events.facts(after: state.eventWatermark, through: end)))
                   + (SELECT count(*) FROM \(LogOrigin.laravel.facts(after: state.laravelWatermark, through: end))),
                   (SELECT CASE WHEN l.updated_at >= '1970-01-01' AND l.updated_at < '9999-01-01'
                                THEN extract(epoch FROM \(now) - l.updated_at AT TIME ZONE 'UTC')::bigint END
                    FROM metering.id_ranges(\(state.watermark), \(end)) r
                    CROSS JOIN LATERAL (
                        SELECT o.updated_at FROM public.api_logs o
                        WHERE o.id > r.lower AND o.id <= r.upper ORDER BY o.id LIMIT 1) l
                    ORDER BY r.lower + r.shift LIMIT 1),
                   CASE WHEN day_boundary > 0 THEN to_char(metering.quarter_start(day_boundary), \(format)) END,
                   CASE WHEN isfinite(sealed_before) THEN to_char(sealed_before, \(format)) END,
                   to_char(passed_at, \(format)) || ', ' || passed_rows || ' rows in ' || pass_ms || ' ms'
            FROM metering.rollup_watermark
            """)[0]
        let (pendingLogs, pendingSeconds, daysBefore, sealedBefore, passedAt) = try row.decode(
            Int.self, Int?.self, String?.self, String?.self, String?.self)
        return RollupStatus(
            state: state, pendingLogs: pendingLogs, pendingSeconds: pendingSeconds,
            waitingFor: try CommitHorizon.writersOfMark(connection), daysBefore: daysBefore,
            sealedBefore: sealedBefore, passedAt: passedAt)
    }
}

/// The two origins of rows on the line of ids of `api_logs`, each rolled up to a state of its own
/// (`migrations/0007_usage.sql`, `0018_id_line.sql`).
package enum LogOrigin: Sendable, CaseIterable {
    /// Rows with facts in `metering.events`.
    case events
    /// Rows of `api_logs` without: Laravel's own, and history older than us.
    case laravel

    /// The cursor's column.
    var column: Query {
        switch self {
        case .events: "event_log_id"
        case .laravel: "other_log_id"
        }
    }

    /// What the rows after the position `after`, up to `through`, contribute.
    func facts(after: Int64, through: Int64) -> Query {
        switch self {
        case .events: "metering.event_facts(\(after)::bigint, \(through)::bigint)"
        case .laravel: "metering.log_facts(\(after)::bigint, \(through)::bigint)"
        }
    }

    /// A stretch of the line on which all positions have the same shift.
    struct Stretch {
        var end: Int64
        var shift: Int64
    }

    /// The stretch that begins after `after`; it ends at `through` at the latest.
    func firstStretch(after: Int64, through: Int64, _ connection: Connection) throws -> Stretch {
        guard self == .laravel else { return Stretch(end: through, shift: 0) }
        let rows = try connection.query(
            """
            SELECT upper + shift, shift FROM metering.id_ranges(\(after)::bigint, \(through)::bigint)
            ORDER BY lower + shift LIMIT 2
            """)
        guard let (end, shift) = try rows.first?.decode(Int64.self, Int64.self) else {
            return Stretch(end: through, shift: 0)
        }
        // After the last one no row stands.
        return Stretch(end: rows.count == 1 ? through : end, shift: shift)
    }

    /// The positions of a stretch, after `after`, on which rows of this origin may stand, ascending.
    func positions(after: Int64, in stretch: Stretch) -> Query {
        switch self {
        case .events:
            """
            SELECT api_log_id FROM metering.events
            WHERE api_log_id > \(after)::bigint AND api_log_id <= \(stretch.end)::bigint ORDER BY api_log_id
            """
        case .laravel:
            """
            SELECT id + \(stretch.shift)::bigint FROM public.api_logs
            WHERE id > \(after - stretch.shift)::bigint AND id <= \(stretch.end - stretch.shift)::bigint ORDER BY id
            """
        }
    }
}
