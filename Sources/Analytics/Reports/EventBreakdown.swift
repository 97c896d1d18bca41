import Domain
import Postgres
import Storage

/// Groups that only the facts of each event know, and no rollup.
package enum EventGroup: String, Sendable, CaseIterable {
    case errorCode = "error_code"
    /// An event may have several tags, and counts for each.
    case tag
    /// The client's own word for its user.
    case endUser = "end_user"
}

/// Breakdowns that read the events themselves. Laravel's own logs have none.
package enum EventBreakdown {
    /// Logs of all users that one answer may look at, unless its range is a single day.
    package static let maximumLogs: Int64 = 1_000_000

    /// The `limit` largest groups of the events in `range`, or those after the page that ended at `previous`.
    ///
    /// - Throws: ``AppError`` `.invalid` where the range has more than ``maximumLogs``, with the largest that has not;
    ///   `PostgresError`.
    package static func read(
        _ scope: UsageScope, _ range: ReportRange, by group: EventGroup,
        after previous: UsageBreakdown.PageEnd? = nil, limit: Int = 10, rankedBy ranking: UsageRanking = .requests,
        on snapshot: ReportSnapshot
    ) throws -> UsageBreakdown {
        try requireFew(range, of: scope, on: snapshot)
        let query = UsageQuery(scope: scope, boundaries: [], ranking: ranking, limit: limit, previous: previous)
        let rows = try query.rows(of: query.statement(of: usage(of: scope, range, by: group)), on: snapshot)
        var total: UsageTotals?
        if group == .tag {
            let all = UsageQuery(scope: scope, boundaries: [], ranking: ranking)
            total = try all.rows(of: all.statement(of: usage(of: scope, range, by: nil)), on: snapshot).first?.sums
        }
        return UsageBreakdown(range, rows, total: total, of: query)
    }

    /// CTE `usage` of single events, all in one bucket.
    static func usage(of scope: UsageScope, _ range: ReportRange, by group: EventGroup?) -> Query {
        let (key, tags): (Query, Query) =
            switch group {
            case nil: ("NULL::text", "")
            case .errorCode: ("e.error_code", "")
            case .endUser: ("e.end_user", "")
            // A tag that an event has twice counts once.
            case .tag:
                (
                    "t.tag",
                    """

                            LEFT JOIN LATERAL unnest(e.tags) WITH ORDINALITY AS t (tag, position)
                                ON array_position(e.tags, t.tag) = t.position
                    """
                )
            }
        return """
            usage AS (
                SELECT u.* FROM (
                    SELECT 1 AS bucket, 1 AS sign, \(key) AS key, e.model_group AS model, e.provider, e.status, e.plan,
                           e.user_id, 1 AS requests, (e.cost IS NULL)::integer AS unpriced, e.input_tokens,
                           e.output_tokens, e.cached_tokens, e.reasoning_tokens,
                           coalesce(e.duration_ms, 0) AS duration_ms, coalesce(e.cost, 0) AS cost,
                           coalesce(e.ledger_cost, \(unsafeSQL: Query.laravelCost(of: "coalesce(e.cost, 0)")))
                               AS ledger_cost,
                           coalesce(e.flags @> '{self_reported}', false) AS is_self_reported
                    FROM metering.events e\(tags)
                    WHERE e.occurred_at >= \(range.from) AND e.occurred_at < \(range.to)
                ) u
                WHERE \(scope.containsDimension("u")) AND \(scope.containsLog(of: "u.user_id"))
            )
            """
    }

    private static func requireFew(
        _ range: ReportRange, of scope: UsageScope, on snapshot: ReportSnapshot
    ) throws {
        let (low, high) = (range.quarterHours.lowerBound, range.quarterHours.upperBound)
        let days = max(1, (high - low) / QuarterHour.perDay)
        guard days > 1 else { return }
        // Days counted back from the end: the longest row of them that has not too many logs.
        let boundaries = [low] + (1..<days).reversed().map { high - $0 * QuarterHour.perDay } + [high]
        let rows = try UsageQuery(scope: .allUsers, boundaries: boundaries).rows(on: snapshot)
        var (logs, allowed) = (Int64(0), days)
        for row in rows.sorted(by: { $0.bucket > $1.bucket }) {
            logs += row.sums.requests
            guard logs > maximumLogs else { continue }
            allowed = days - row.bucket
            break
        }
        guard allowed < days else { return }
        // A user may not learn how many requests others made.
        let fewer = scope.users == nil ? "the last \(max(1, allowed)) days of it" : "a single day"
        throw AppError(
            .invalid,
            """
            This looks at each call, and there are too many in the range. Ask for \(fewer), or group by model, \
            provider, status or plan.
            """)
    }
}
