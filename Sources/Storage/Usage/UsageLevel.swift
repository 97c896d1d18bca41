import Postgres

/// A table of sums, and what its cells must be: made from the level below.
package enum UsageLevel: String, Sendable, CaseIterable {
    /// A user's quarters, from the raw rows.
    case quarters
    /// Everybody's quarters, from the users', without what these reported themselves.
    case everybody
    /// Days, from quarters before the border.
    case days

    var table: Query { self == .days ? "metering.usage_days" : "metering.usage_quarters" }
    /// The column of the table that says when.
    var bucket: Query { self == .days ? "day" : "quarter" }
    /// A bucket's begin as `timestamptz`.
    func start(_ bucket: Query) -> Query {
        self == .days ? "(\(bucket)::timestamp AT TIME ZONE 'UTC')" : "metering.quarter_start(\(bucket))"
    }

    /// CTEs `expected` and `actual` of (user_id, bucket, dimension, measures): what cells must be and what they are.
    ///
    /// Users whom Laravel has deleted are left out where raw rows are compared: theirs went with them.
    func comparison(_ range: UsageRange, _ cursor: UsageCursor) -> Query {
        let range = self == .quarters ? range.unsealed(cursor) : range
        return """
            expected AS (
                \(expected(range, cursor))
            ), actual AS (
                SELECT t.user_id, t.\(bucket) AS bucket, t.dimension, \(UsageMeasures.columns)
                FROM \(table) t
                WHERE \(actual(range, cursor))
            )
            """
    }

    /// CTE `difference` of (user_id, bucket, dimension), the cells that differ, with both sides' row.
    static let joined: Query = """
        expected e FULL JOIN actual a
            ON a.user_id = e.user_id AND a.bucket = e.bucket AND a.dimension = e.dimension
        """

    private func expected(_ range: UsageRange, _ cursor: UsageCursor) -> Query {
        switch self {
        case .quarters:
            """
            SELECT f.user_id, metering.quarter_of(f.occurred_at) AS bucket, d.dimension, \(UsageMeasures.ofFacts)
            FROM (\(range.facts(cursor))) f \(UsageDimensions.join)
            WHERE f.user_id IN (SELECT id FROM public.users)
            GROUP BY 1, 2, 3
            """
        case .everybody:
            """
            SELECT 0::bigint AS user_id, s.*, coalesce(h.histogram, '{}') AS histogram
            FROM (
                SELECT c.quarter AS bucket, c.dimension, \(UsageMeasures.sumsOfCells)
                FROM metering.usage_quarters c
                WHERE c.user_id <> 0 AND \(range.contains(quarter: "c.quarter"))
                  AND \(UsageDimensions.countsForAll("c.dimension"))
                GROUP BY 1, 2
            ) s LEFT JOIN (
                SELECT b.bucket, b.dimension, array_agg((b.element << 40) + b.count) AS histogram
                FROM (
                    SELECT c.quarter AS bucket, c.dimension, e >> 40 AS element, sum(e & 1099511627775)::bigint AS count
                    FROM metering.usage_quarters c, unnest(c.histogram) e
                    WHERE c.user_id <> 0 AND \(range.contains(quarter: "c.quarter"))
                      AND \(UsageDimensions.countsForAll("c.dimension"))
                    GROUP BY 1, 2, 3
                ) b
                GROUP BY 1, 2
            ) h USING (bucket, dimension)
            """
        case .days:
            """
            SELECT c.user_id, metering.day_of(c.quarter) AS bucket, c.dimension, \(UsageMeasures.ofCells)
            FROM metering.usage_quarters c
            WHERE c.quarter < \(cursor.daysBefore) AND \(range.contains(quarter: "c.quarter"))
              AND \(range.user == nil ? "true" : range.contains(user: "c.user_id"))
            GROUP BY 1, 2, 3
            """
        }
    }

    private func actual(_ range: UsageRange, _ cursor: UsageCursor) -> Query {
        switch self {
        case .quarters:
            """
            \(range.contains(quarter: "t.quarter")) AND \(range.contains(user: "t.user_id"))
            AND t.user_id IN (SELECT id FROM public.users)
            AND (t.quarter >= \(cursor.logsSealedBefore) OR \(UsageDimensions.areOfEvents("t.dimension")))
            """
        case .everybody: "t.user_id = 0 AND \(range.contains(quarter: "t.quarter"))"
        case .days:
            """
            \(range.contains(day: "t.day")) AND \(range.user == nil ? "true" : range.contains(user: "t.user_id"))
            """
        }
    }
}
