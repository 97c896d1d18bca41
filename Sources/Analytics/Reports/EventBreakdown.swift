import Domain
import Postgres
import Storage

/// What only the facts of each call know, and no sum does.
package enum EventGroup: String, Sendable, CaseIterable {
    case errorCode = "error_code"
    /// A call may have several, and counts for each.
    case tag
    /// The client's own word for its user.
    case endUser = "end_user"

    /// Of the event `e` and its tag `t`.
    fileprivate var column: Query { self == .tag ? "t.tag" : Query(unsafeSQL: "e.\(rawValue)") }
}

/// Breakdowns that read the calls themselves: those with facts, which Laravel's own rows are not.
package enum EventBreakdown {
    /// Calls of all users that one answer may look at, unless it is about a single day.
    package static let maximumCalls: Int64 = 1_000_000
    private static let quartersOfDay = 96

    /// The `limit` largest groups of the calls in `range`, or those after `place`.
    ///
    /// - Throws: ``AppError`` `.invalid` where the range has more than ``maximumCalls``, with the largest that has not;
    ///   `PostgresError`.
    package static func read(
        _ scope: UsageScope, _ range: ReportRange, by group: EventGroup, after place: UsageBreakdown.Place? = nil,
        limit: Int = 10, rankedBy ranking: UsageRanking = .requests, _ snapshot: ReportSnapshot
    ) throws -> UsageBreakdown {
        try requireFew(range, of: scope, snapshot)
        let table = UsageQuery(scope: scope, boundaries: [], ranking: ranking, limit: limit, place: place)
        let cells = try table.cells(in: source(scope, range, group), snapshot)
        let whole = UsageQuery(scope: scope, boundaries: [], ranking: ranking)
        let total =
            group == .tag ? try whole.cells(in: source(scope, range, nil), snapshot).first?.sums : nil
        return UsageBreakdown(range, cells, total: total, table)
    }

    /// CTE `cell` of single calls, each of one bucket.
    private static func source(_ scope: UsageScope, _ range: ReportRange, _ group: EventGroup?) -> Query {
        // A tag that an event has twice is one tag of it.
        let tags: Query =
            group == .tag
            ? """
            LEFT JOIN LATERAL unnest(e.tags) WITH ORDINALITY AS t (tag, place)
            ON array_position(e.tags, t.tag) = t.place
            """ : ""
        return """
            cell AS (
                SELECT c.* FROM (
                    SELECT 1 AS bucket, 1 AS sign, \(group?.column ?? "NULL::text") AS key, e.model_group AS model, e.provider,
                           e.status, e.plan, e.user_id, 1 AS requests, (e.cost IS NULL)::integer AS unpriced, e.input_tokens,
                           e.output_tokens, e.cached_tokens, e.reasoning_tokens, coalesce(e.duration_ms, 0) AS duration_ms,
                           coalesce(e.cost, 0) AS cost,
                           coalesce(e.ledger_cost, least(round(coalesce(e.cost, 0), 6), 9999.999999)) AS ledger_cost,
                           coalesce(e.flags @> '{self_reported}', false) AS is_self_reported
                    FROM metering.events e \(tags)
                    WHERE e.occurred_at >= \(range.from) AND e.occurred_at < \(range.to)
                ) c
                WHERE \(scope.ofDimension("c")) AND \(scope.ofFacts("c"))
            )
            """
    }

    private static func requireFew(_ range: ReportRange, of scope: UsageScope, _ snapshot: ReportSnapshot) throws {
        let (low, high) = (range.quarters.lowerBound, range.quarters.upperBound)
        let days = max(1, (high - low) / quartersOfDay)
        guard days > 1 else { return }
        // Days counted back from the end: the longest row of them that is not too much.
        let boundaries = [low] + (1..<days).reversed().map { high - $0 * quartersOfDay } + [high]
        let cells = try UsageQuery(scope: .allUsers, boundaries: boundaries).cells(snapshot)
        var (calls, allowed) = (Int64(0), days)
        for cell in cells.sorted(by: { $0.bucket > $1.bucket }) {
            calls += cell.sums.requests
            guard calls > maximumCalls else { continue }
            allowed = days - cell.bucket
            break
        }
        guard allowed < days else { return }
        // How many calls others made is not a user's to know.
        let fewer = scope.users == nil ? "the last \(max(1, allowed)) days of it" : "a single day"
        throw AppError(
            .invalid,
            """
            This looks at each call, and there are too many in the range. Ask for \(fewer), or group by model, provider, \
            status or plan.
            """)
    }
}
