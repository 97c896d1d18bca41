import Postgres

/// The two kinds of rows on the line of ids of `api_logs`, each folded to a cursor of its own (`migrations/0007_usage.sql`).
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

    /// What the rows behind the id `after`, up to `through`, contribute.
    func facts(after: Int64, through: Int64) -> Query {
        switch self {
        case .events: "metering.event_facts(\(after)::bigint, \(through)::bigint)"
        case .others: "metering.log_facts(\(after)::bigint, \(through)::bigint)"
        }
    }

    /// The ids of the line on which rows of this kind may stand, ascending.
    func ids(after: Int64, through: Int64) -> Query {
        switch self {
        case .events:
            """
            SELECT api_log_id AS id FROM metering.events
            WHERE api_log_id > \(after)::bigint AND api_log_id <= \(through)::bigint ORDER BY api_log_id
            """
        case .others:
            "SELECT id FROM public.api_logs WHERE id > \(after)::bigint AND id <= \(through)::bigint ORDER BY id"
        }
    }
}
