import Domain
import Postgres

/// The cells of a report: sums of days and quarters, and the rows behind the cursor, each in its bucket.
struct UsageCells {
    /// What a cell has beside bucket, sign and dimension.
    private static let measures = Query(unsafeSQL: UsageMeasures.names.joined(separator: ", "))

    let scope: UsageScope
    let pieces: UsagePieces
    let cursor: UsageCursor
    /// Whether histograms are read as well.
    var hasHistograms = false
    /// Whether everybody's usage is read user by user.
    var tellsUsers = false

    /// CTE `cell` of (bucket, sign, model, provider, status, plan, user_id, measures, histogram); a
    /// cell counts `sign` times.
    var query: Query {
        // OFFSET 0: the planner, who does not know how short the tail is, would read all of the user's rows instead.
        """
        stored AS (
            \(days)
            UNION ALL
            \(moved)
            UNION ALL
            \(quarters)
        ), tail AS (
            SELECT * FROM \(UsageKind.events.facts(after: cursor.events, through: .max)) f WHERE \(scope.ofFacts)
            UNION ALL
            SELECT * FROM (
                SELECT * FROM \(UsageKind.others.facts(after: cursor.others, through: .max)) OFFSET 0
            ) f
            WHERE \(scope.ofFacts)
        ), cell AS MATERIALIZED (
            SELECT c.* FROM (
                SELECT s.bucket, s.sign, d.model, d.provider, d.status, d.plan, s.user_id,
                       \(Self.measures)\(column("s.histogram"))
                FROM stored s JOIN metering.usage_dimensions d USING (dimension)
                UNION ALL
                SELECT width_bucket(metering.quarter_of(f.occurred_at), \(pieces.boundaries)::integer[]), 1,
                       f.model, f.provider, f.status, f.plan, f.user_id, 1, (f.cost IS NULL)::integer,
                       f.input_tokens, f.output_tokens, f.cached_tokens, f.reasoning_tokens,
                       coalesce(f.duration_ms, 0), coalesce(f.cost, 0), f.ledger_cost\(column(Self.histogramOfFacts))
                FROM tail f
                WHERE f.occurred_at >= \(start) AND f.occurred_at < \(end)
            ) c
            WHERE \(scope.ofDimension)
        )
        """
    }

    /// The condition on whose cells are read: everybody's sums stand at user 0, which is nobody to whoever asks for it.
    private func owner(_ column: Query) -> Query {
        if let user = scope.user { return "\(column) = nullif(\(user)::bigint, 0)" }
        return tellsUsers ? "\(column) <> 0" : "\(column) = 0"
    }

    private var days: Query {
        """
        SELECT width_bucket(u.day - '1970-01-01'::date, \(pieces.days)::integer[]) AS bucket, 1 AS sign,
               u.dimension, u.user_id, \(Self.measures)\(column("u.histogram"))
        FROM metering.usage_days u
        WHERE \(owner("u.user_id")) AND u.day >= '1970-01-01'::date + \(pieces.days.first ?? 0)::integer
          AND u.day < '1970-01-01'::date + \(pieces.days.last ?? 0)::integer
        """
    }

    private var moved: Query {
        """
        SELECT s.bucket, s.sign, u.dimension, u.user_id, \(Self.measures)\(column("u.histogram"))
        FROM unnest(\(pieces.moves.map(\.quarters.lowerBound))::integer[], \(pieces.moves.map(\.quarters.upperBound))::integer[],
                    \(pieces.moves.map(\.source))::integer[], \(pieces.moves.map(\.target))::integer[])
             AS m (start, stop, source, target)
        CROSS JOIN LATERAL (
            SELECT c.dimension, c.user_id, \(hasHistograms ? UsageMeasures.ofCells : UsageMeasures.sumsOfCells)
            FROM metering.usage_quarters c
            WHERE \(owner("c.user_id")) AND c.quarter >= m.start AND c.quarter < m.stop
            GROUP BY 1, 2
        ) u
        CROSS JOIN LATERAL (VALUES (m.source, -1), (m.target, 1)) AS s (bucket, sign)
        WHERE s.bucket > 0 AND s.bucket < \(pieces.boundaries.count)::integer
        """
    }

    private var quarters: Query {
        """
        SELECT width_bucket(u.quarter, \(pieces.boundaries)::integer[]), 1, u.dimension, u.user_id,
               \(Self.measures)\(column("u.histogram"))
        FROM metering.usage_quarters u
        WHERE \(owner("u.user_id")) AND u.quarter >= \(pieces.quarters.lowerBound)::integer
          AND u.quarter < \(pieces.quarters.upperBound)::integer
        """
    }

    private var start: Timestamp { ReportRange.start(of: pieces.boundaries[0]) }
    private var end: Timestamp { ReportRange.start(of: pieces.boundaries[pieces.boundaries.count - 1]) }

    private func column(_ histogram: Query) -> Query { hasHistograms ? ", \(histogram)" : "" }

    private static let histogramOfFacts: Query = """
        array_remove(ARRAY[(metering.bucket_of(f.duration_ms) << 40) + 1,
                           (metering.bucket_of(f.first_token_ms) + 2000 << 40) + 1], NULL)
        """
}
