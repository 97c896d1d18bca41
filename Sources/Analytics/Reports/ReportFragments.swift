import Domain
import Postgres
import Storage

/// The SQL that several reports share. The rest of a report's statement stands in the report's own file, and
/// `Tests/AnalyticsTests/Snapshots` holds every statement whole.
enum ReportFragments {
    /// CTE `usage` of (bucket, sign, status, key, measures, histogram): the rollups and pending logs of `scope` in the
    /// buckets of `cover`, with the key that `group` distinguishes. A row counts `sign` times.
    static func usage(
        of scope: UsageScope, in cover: RollupCover, by group: UsageGroup?, hasHistograms: Bool = false,
        _ state: ReportState
    ) -> Query {
        let histogram: Query = hasHistograms ? ", u.histogram" : ""
        let range = cover.boundaries[0]..<cover.boundaries[cover.boundaries.count - 1]
        return """
            rollup AS (
                -- Days, each in the bucket that holds its middle.
                SELECT width_bucket(u.day - '1970-01-01'::date, \(cover.days)::integer[]) AS bucket, 1 AS sign,
                       u.dimension, u.user_id,
                       \(RollupMeasures.read)\(histogram)
                FROM metering.rollup_day u
                WHERE \(scope.containsRollup(of: "u.user_id", by: group))
                  AND u.day >= '1970-01-01'::date + \(cover.days.first ?? 0)::integer
                  AND u.day < '1970-01-01'::date + \(cover.days.last ?? 0)::integer
                UNION ALL
                -- The quarter hours of a day that a boundary cuts: out of the day's bucket, into their own.
                SELECT s.bucket, s.sign, u.dimension, u.user_id,
                       \(RollupMeasures.list)\(histogram)
                FROM unnest(\(cover.moves.map(\.quarterHours.lowerBound))::integer[],
                            \(cover.moves.map(\.quarterHours.upperBound))::integer[],
                            \(cover.moves.map(\.source))::integer[], \(cover.moves.map(\.target))::integer[])
                     AS m (start, stop, source, target)
                CROSS JOIN LATERAL (
                    SELECT c.dimension, c.user_id,
                           \(hasHistograms ? RollupMeasures.ofCells : RollupMeasures.sumsOfCells)
                    FROM metering.rollup_15m c
                    WHERE \(scope.containsRollup(of: "c.user_id", by: group))
                      AND c.quarter >= m.start AND c.quarter < m.stop
                    GROUP BY 1, 2
                ) u
                CROSS JOIN LATERAL (VALUES (m.source, -1), (m.target, 1)) AS s (bucket, sign)
                WHERE s.bucket > 0 AND s.bucket < \(cover.boundaries.count)::integer
                UNION ALL
                -- After the day boundary, and in short ranges.
                SELECT width_bucket(u.quarter, \(cover.boundaries)::integer[]), 1, u.dimension, u.user_id,
                       \(RollupMeasures.read)\(histogram)
                FROM metering.rollup_15m u
                WHERE \(scope.containsRollup(of: "u.user_id", by: group))
                  AND u.quarter >= \(cover.quarterHours.lowerBound)::integer
                  AND u.quarter < \(cover.quarterHours.upperBound)::integer
            ), \(pending(of: scope, range, state)), usage AS MATERIALIZED (
                SELECT u.bucket, u.sign, d.status, \(key(of: group, dimension: "d", user: "u")) AS key,
                       \(RollupMeasures.list)\(histogram)
                FROM rollup u JOIN metering.rollup_dimension d USING (dimension)
                WHERE \(scope.containsDimension("d"))
                UNION ALL
                -- Added up at once: there may be 60,000 pending logs, and each step costs each of them.
                SELECT width_bucket(f.occurred_at, ARRAY(
                           SELECT 'epoch'::timestamptz + b.quarter * interval '15 minutes'
                           FROM unnest(\(cover.boundaries)::integer[]) WITH ORDINALITY AS b (quarter, position)
                           ORDER BY b.position)),
                       1, f.status, \(key(of: group, dimension: "f", user: "f")),
                       \(hasHistograms ? RollupMeasures.ofFacts : RollupMeasures.sumsOfFacts)
                FROM pending f
                GROUP BY 1, 3, 4
            )
            """
    }

    /// CTE `pending`: what the pending logs of `scope` in `quarterHours` contribute.
    ///
    /// It has no condition on the event key. Such a condition would open fewer months. But the planner does not know
    /// how few logs are pending, and would read those months by the event key.
    static func pending(of scope: UsageScope, _ quarterHours: Range<Int>, _ state: ReportState) -> Query {
        // OFFSET 0: the planner does not know how few logs are pending, and would read all logs of the user.
        let laravelLogs: Query = """

                    UNION ALL
                    SELECT * FROM (
                        SELECT * FROM \(LogOrigin.laravel.facts(after: state.rollups.laravelWatermark, through: .max))
                        OFFSET 0
                    ) f
                    WHERE \(scope.containsLog(of: "f.user_id"))
            """
        return """
            pending AS (
                SELECT f.* FROM (
                    SELECT * FROM \(LogOrigin.events.facts(after: state.rollups.eventWatermark, through: .max)) f
                    WHERE \(scope.containsLog(of: "f.user_id"))\(state.hasPendingLaravelLogs ? laravelLogs : "")
                    -- Found by their ids alone: an index by time would be read of every month, and finds no fewer.
                    OFFSET 0
                ) f
                WHERE f.occurred_at >= \(QuarterHour.start(of: quarterHours.lowerBound))
                  AND f.occurred_at < \(QuarterHour.start(of: quarterHours.upperBound))
                  AND \(scope.containsDimension("f"))
            )
            """
    }

    /// What rows are distinguished by: a column of `dimension`, or the id of the user of the row `user`.
    private static func key(of group: UsageGroup?, dimension: Query, user: Query) -> Query {
        switch group {
        case nil: "NULL::text"
        case .user: "\(user).user_id::text"
        case let group?: "\(dimension).\(unsafeSQL: group.rawValue)"
        }
    }
}

extension UsageScope {
    /// Whether the log of the user in `column` is in the scope.
    func containsLog(of column: Query) -> Query { users.map { Self.condition(column, $0) } ?? "true" }

    /// Whether the rollup with the user in `column` is in the scope. Rollups for all users use user 0, which no API
    /// user can have.
    func containsRollup(of column: Query, by group: UsageGroup?) -> Query {
        if let users { return Self.condition(column, users.filter { $0 != 0 }) }
        // 0 is a parameter. A planner that sees the constant, which is the most frequent user, expects an index by time
        // to be shorter.
        return group == .user ? "\(column) <> 0" : Self.condition(column, [0])
    }

    /// Whether model, provider, status, plan and reporter of the row `alias` are in the scope.
    func containsDimension(_ alias: Query) -> Query {
        let conditions: [(column: Query, values: [String])] = [
            ("\(alias).model", models.sorted()), ("\(alias).provider", providers.sorted()),
            ("\(alias).status", statuses.map(\.rawValue).sorted()), ("\(alias).plan", plans.sorted()),
        ]
        let all: Query = leavesOutSelfReported ? "NOT \(alias).is_self_reported" : "true"
        return conditions.reduce(all) { condition, part in
            part.values.isEmpty ? condition : "\(condition) AND \(part.column) = ANY(\(part.values)::text[])"
        }
    }

    private static func condition(_ column: Query, _ users: [Int64]) -> Query {
        users.count == 1 ? "\(column) = \(users[0])" : "\(column) = ANY(\(users)::bigint[])"
    }
}

extension UsageRanking {
    /// The measure of a row `t` that groups are ordered by.
    var measure: Query {
        switch self {
        case .requests: "t.requests"
        case .tokens: "t.input_tokens::numeric + t.output_tokens"
        case .cost: "t.cost"
        }
    }
}
