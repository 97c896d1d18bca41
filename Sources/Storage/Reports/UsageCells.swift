import Domain
import Postgres

/// The cells of a report: sums of days and quarters, and the rows behind the cursor, each in its bucket.
struct UsageCells {
    /// What a cell has beside bucket, sign and dimension.
    private static let measures = Query(unsafeSQL: UsageMeasures.names.joined(separator: ", "))
    // As they are in the tables.
    private static let stored = UsageMeasures.read

    private let scope: UsageScope
    private let pieces: UsagePieces
    private let group: UsageGroup?
    /// Whether histograms are read as well.
    private let hasHistograms: Bool
    private let snapshot: UsageSnapshot

    /// The cells of the buckets between `boundaries`, told apart by `group`.
    init(
        _ scope: UsageScope, _ boundaries: [Int], by group: UsageGroup?, hasHistograms: Bool = false,
        _ snapshot: UsageSnapshot
    ) {
        self.scope = scope
        self.group = group
        self.hasHistograms = hasHistograms
        self.snapshot = snapshot
        pieces = UsagePieces(boundaries, daysBefore: snapshot.cursor.daysBefore)
    }

    /// CTE `cell` of (bucket, sign, status, key, measures, histogram); a cell counts `sign` times.
    var query: Query {
        """
        stored AS (
            \(days)
            UNION ALL
            \(moved)
            UNION ALL
            \(quarters)
        ), cell AS MATERIALIZED (
            SELECT s.bucket, s.sign, d.status, \(key("d", owner: "s")) AS key, \(Self.measures)\(column("s.histogram"))
            FROM stored s JOIN metering.usage_dimensions d USING (dimension)
            WHERE \(scope.ofDimension("d"))
            UNION ALL
            \(tail)
        )
        """
    }

    /// The rows behind the cursor, added up at once: a long tail is sixty thousand rows, and each step costs each of them.
    private var tail: Query {
        """
        SELECT width_bucket(f.occurred_at, ARRAY(
                   SELECT 'epoch'::timestamptz + b.quarter * interval '15 minutes'
                   FROM unnest(\(pieces.boundaries)::integer[]) WITH ORDINALITY AS b (quarter, place) ORDER BY b.place)),
               1, f.status, \(key("f", owner: "f")), \(hasHistograms ? UsageMeasures.ofFacts : UsageMeasures.sumsOfFacts)
        FROM (\(UsageTail(scope, pieces.boundaries[0]..<pieces.boundaries[pieces.boundaries.count - 1], snapshot).query)) f
        GROUP BY 1, 3, 4
        """
    }

    /// The condition on whose cells are read.
    private func owner(_ column: Query) -> Query { scope.ofSums(column, by: group) }

    /// What cells are told apart by, of facts or dimensions `alias` of the users of the rows `owner`.
    private func key(_ alias: Query, owner: Query) -> Query {
        group?.column(alias, owner: owner) ?? "NULL::text"
    }

    private var days: Query {
        """
        SELECT width_bucket(u.day - '1970-01-01'::date, \(pieces.days)::integer[]) AS bucket, 1 AS sign,
               u.dimension, u.user_id, \(Self.stored)\(column("u.histogram"))
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
               \(Self.stored)\(column("u.histogram"))
        FROM metering.usage_quarters u
        WHERE \(owner("u.user_id")) AND u.quarter >= \(pieces.quarters.lowerBound)::integer
          AND u.quarter < \(pieces.quarters.upperBound)::integer
        """
    }

    private func column(_ histogram: Query) -> Query { hasHistograms ? ", \(histogram)" : "" }
}
