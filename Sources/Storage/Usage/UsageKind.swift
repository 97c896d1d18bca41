import Postgres

/// The two kinds of rows on the line of ids of `api_logs`, each folded to a cursor of its own
/// (`migrations/0007_usage.sql`, `0018_id_line.sql`).
package enum UsageKind: Sendable, CaseIterable {
    /// Rows with facts in `metering.events`.
    case events
    /// Rows of `api_logs` without: Laravel's own, and history older than us.
    case others

    /// The cursor's column.
    var cursor: Query {
        switch self {
        case .events: "event_log_id"
        case .others: "other_log_id"
        }
    }

    /// What the rows behind the position `after`, up to `through`, contribute.
    func facts(after: Int64, through: Int64) -> Query {
        switch self {
        case .events: "metering.event_facts(\(after)::bigint, \(through)::bigint)"
        case .others: "metering.log_facts(\(after)::bigint, \(through)::bigint)"
        }
    }

    /// A stretch of the line on which all positions have the same shift.
    struct Stretch {
        var end: Int64
        var shift: Int64
    }

    /// The stretch that begins behind `after`; it ends at `through` at the latest.
    func firstStretch(after: Int64, through: Int64, _ connection: Connection) throws -> Stretch {
        guard self == .others else { return Stretch(end: through, shift: 0) }
        let rows = try connection.query(
            """
            SELECT upper + shift, shift FROM metering.id_ranges(\(after)::bigint, \(through)::bigint)
            ORDER BY lower + shift LIMIT 2
            """)
        guard let (end, shift) = try rows.first?.decode(Int64.self, Int64.self) else {
            return Stretch(end: through, shift: 0)
        }
        // Behind the last one no row stands.
        return Stretch(end: rows.count == 1 ? through : end, shift: shift)
    }

    /// The positions of a stretch, behind `after`, on which rows of this kind may stand, ascending.
    func positions(after: Int64, in stretch: Stretch) -> Query {
        switch self {
        case .events:
            """
            SELECT api_log_id FROM metering.events
            WHERE api_log_id > \(after)::bigint AND api_log_id <= \(stretch.end)::bigint ORDER BY api_log_id
            """
        case .others:
            """
            SELECT id + \(stretch.shift)::bigint FROM public.api_logs
            WHERE id > \(after - stretch.shift)::bigint AND id <= \(stretch.end - stretch.shift)::bigint ORDER BY id
            """
        }
    }
}
