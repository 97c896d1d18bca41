package import Domain
package import Postgres

/// How far the sums are, for an operator.
package struct RollupStatus: Sendable {
    /// Names and values, a line each.
    package var lines: [(name: String, value: String)] {
        [
            ("folded up to position", "\(cursor.events) (events), \(cursor.others) (rows without an event)"),
            ("final up to position", "\(cursor.settled)"),
            ("rows behind", "\(rowsBehind)"),
            ("seconds behind", "\(secondsBehind ?? 0)"),
            ("days written up to", daysBefore ?? "none"),
            ("raw rows kept from", sealedBefore ?? "the beginning"),
            ("last whole pass", passedAt ?? "none"),
        ] + waitingFor.map { ("waiting for", "\($0)") }
    }

    /// Where the cursors are.
    package let cursor: UsageCursor
    /// Rows that readers add to the sums themselves.
    package let rowsBehind: Int
    /// Age of the first row behind the cursors, since it was written; `nil` where there is none.
    package let secondsBehind: Int?
    /// Open transactions that the last look found in the way.
    package let waitingFor: [UsageSettlement.Writer]
    private let daysBefore: String?
    private let sealedBefore: String?
    private let passedAt: String?

    /// Counts the rows behind `cursor`: a moment for each million.
    package init(_ cursor: UsageCursor, _ connection: Connection, now: Timestamp) throws {
        let end = Int64.max
        let format: Query = #"'YYYY-MM-DD"T"HH24:MI:SS"Z"'"#
        let row = try connection.query(
            """
            SELECT (SELECT count(*) FROM \(UsageKind.events.facts(after: cursor.events, through: end)))
                   + (SELECT count(*) FROM \(UsageKind.others.facts(after: cursor.others, through: end))),
                   (SELECT CASE WHEN l.updated_at >= '1970-01-01' AND l.updated_at < '9999-01-01'
                                THEN extract(epoch FROM \(now) - l.updated_at AT TIME ZONE 'UTC')::bigint END
                    FROM metering.id_ranges(\(cursor.folded), \(end)) r
                    CROSS JOIN LATERAL (
                        SELECT o.updated_at FROM public.api_logs o
                        WHERE o.id > r.lower AND o.id <= r.upper ORDER BY o.id LIMIT 1) l
                    ORDER BY r.lower + r.shift LIMIT 1),
                   CASE WHEN days_before > 0 THEN to_char(metering.quarter_start(days_before), \(format)) END,
                   CASE WHEN isfinite(sealed_before) THEN to_char(sealed_before, \(format)) END,
                   to_char(passed_at, \(format)) || ', ' || passed_rows || ' rows in ' || pass_ms || ' ms'
            FROM metering.usage_cursor
            """)[0]
        self.cursor = cursor
        (rowsBehind, secondsBehind, daysBefore, sealedBefore, passedAt) = try row.decode(
            Int.self, Int?.self, String?.self, String?.self, String?.self)
        waitingFor = try UsageSettlement.writersOfMark(connection)
    }
}
