package import Domain
import Foundation
package import Postgres
import Storage

/// The day and the month of a moment, by the calendar of a zone.
package struct LivePeriods: Sendable, Hashable {
    package let day: ReportRange
    package let month: ReportRange

    /// The periods of `now` in `zone`.
    ///
    /// - Throws: ``AppError`` `.invalid` outside of the years 1970 to 9999; ``PostgresError``.
    package static func read(_ zone: TimeZoneName, now: Timestamp, _ connection: Connection) throws -> LivePeriods {
        let periods = try read(zone, day: "0 days", now, connection)
        // Where the clocks went back over midnight, the next day has already begun.
        return periods.day.to > now ? periods : try read(zone, day: "1 day", now, connection)
    }

    private static func read(
        _ zone: TimeZoneName, day: String, _ now: Timestamp, _ connection: Connection
    ) throws -> LivePeriods {
        let row = try connection.query(
            """
            SELECT d.day::date::text, (d.day + interval '1 day')::date::text, date_trunc('month', d.day)::date::text,
                   (date_trunc('month', d.day) + interval '1 month')::date::text
            FROM (SELECT date_trunc('day', (\(now)) AT TIME ZONE \(zone.region)) + \(day)::interval AS day) d
            """)[0]
        let starts = try (0..<4).map { try zone.start(of: try row.decode($0), connection) }
        return LivePeriods(
            day: try ReportRange(from: starts[0], to: starts[1], zone: zone),
            month: try ReportRange(from: starts[2], to: starts[3], zone: zone))
    }
}

/// Usage that grows with each new log: what it adds up to, and how long it took.
package struct GrowingUsage: Sendable, Hashable {
    package fileprivate(set) var sums = UsageTotals()
    /// How many requests are in each bucket of ``RollupHistogram``.
    private var histogram: [Int64: Int64] = [:]

    init() {}

    mutating func add(_ more: UsageTotals, _ buckets: some Sequence<(bucket: Int64, count: Int64)>) {
        sums = sums + more
        for (bucket, count) in buckets { histogram[bucket, default: 0] += count }
    }

    /// The percentiles, as ``UsageQuery`` finds them.
    package var latency: UsageLatency {
        let offset = Int64(RollupHistogram.firstTokenOffset)
        var latency = UsageLatency()
        latency.duration = percentiles(of: 0..<offset)
        latency.firstToken = percentiles(of: offset..<2 * offset)
        return latency
    }

    private func percentiles(of range: Range<Int64>) -> UsageLatency.Percentiles? {
        let counts = histogram.filter { range.contains($0.key) && $0.value > 0 }.sorted { $0.key < $1.key }
        let total = counts.reduce(0) { $0 + Int128($1.value) }
        func percentile(_ percent: Int128) -> Double? {
            var sum: Int128 = 0
            let first = counts.first { count in
                sum += Int128(count.value)
                return sum * 100 >= total * percent
            }
            return first.map { RollupHistogram.middle(ofBucket: $0.key - range.lowerBound) }
        }
        guard let p50 = percentile(50), let p95 = percentile(95), let p99 = percentile(99) else { return nil }
        return UsageLatency.Percentiles(p50: p50, p95: p95, p99: p99)
    }
}

extension RollupHistogram {
    /// The middle of a bucket in milliseconds, as `metering.bucket_middle` has it.
    fileprivate static func middle(ofBucket bucket: Int64) -> Double {
        bucket == 0 ? 0 : exp((Double(bucket) - 0.5) * 0.03922071315328133)
    }

    fileprivate static func parts(of element: Int64) -> (bucket: Int64, count: Int64) {
        (element >> 40, element & (1 << 40 - 1))
    }
}

/// What one user or all users used today and in this month. It begins with a report and grows with each new log.
package struct LiveUsage: Sendable, Hashable {
    package let periods: LivePeriods
    package private(set) var today = GrowingUsage()
    package private(set) var month = GrowingUsage()

    /// What some new logs of one user add.
    package struct Growth: Sendable, Hashable {
        package let user: Int64
        let quarter: Int
        /// Whether the user reported the usage. It does not count for all users.
        package let isSelfReported: Bool
        let sums: UsageTotals
        let histogram: [Int64]
    }

    private init(_ periods: LivePeriods) {
        self.periods = periods
    }

    /// Adds what new logs add.
    package mutating func add(_ growth: Growth) {
        let buckets = growth.histogram.map(RollupHistogram.parts)
        if periods.day.quarterHours.contains(growth.quarter) { today.add(growth.sums, buckets) }
        if periods.month.quarterHours.contains(growth.quarter) { month.add(growth.sums, buckets) }
    }
}

extension LiveUsage {
    /// The usage of each of `users`; with `nil` that of all users, under `nil`.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(
        _ users: [Int64]?, _ periods: LivePeriods, on snapshot: ReportSnapshot
    ) throws -> [Int64?: LiveUsage] {
        var usage: [Int64?: LiveUsage] = [:]
        for user in users.map({ $0.map { $0 as Int64? } }) ?? [nil] { usage[user] = LiveUsage(periods) }
        let boundaries = boundaries(of: periods)
        for row in try snapshot.connection.query(statement(users, periods, snapshot.state)) {
            let (bucket, key) = try row.decode(Int.self, String?.self)
            let user = users == nil ? nil : key.flatMap { Int64($0) }
            let sums = try UsageTotals(row, from: 2)
            let latencies = try row.decode(2 + UsageTotals.columnCount, as: [Int64]?.self) ?? []
            let counts = try row.decode(3 + UsageTotals.columnCount, as: [Int64]?.self) ?? []
            let elements = zip(latencies, counts).map { (bucket: $0, count: $1) }
            usage[user]?.month.add(sums, elements)
            if boundaries[bucket - 1] == periods.day.quarterHours.lowerBound { usage[user]?.today.add(sums, elements) }
        }
        return usage
    }

    private static func boundaries(of periods: LivePeriods) -> [Int] {
        let (day, month) = (periods.day.quarterHours, periods.month.quarterHours)
        return Set([month.lowerBound, day.lowerBound, day.upperBound, month.upperBound]).sorted()
    }

    /// The statement on the usage of `users` before, on and after the day, with histograms.
    static func statement(_ users: [Int64]?, _ periods: LivePeriods, _ state: ReportState) -> Query {
        var scope = UsageScope.allUsers
        if let users {
            scope = UsageScope(user: 0)
            scope.users = users
        }
        let cover = RollupCover(boundaries(of: periods), dayBoundary: state.rollups.dayBoundary)
        let usage = ReportFragments.usage(
            of: scope, in: cover, by: users == nil ? nil : .user, hasHistograms: true, state)
        return """
            WITH \(usage), keyed AS (
            \(UsageQuery.keyed)
            ), element AS (
            \(UsageQuery.element)
            ), histogram AS (
                SELECT e.bucket, e.key, array_agg(e.latency) AS latencies, array_agg(e.count::bigint) AS counts
                FROM element e WHERE e.count > 0
                GROUP BY 1, 2
            )
            SELECT k.bucket, k.key, k.requests, k.unpriced, k.input_tokens, k.output_tokens, k.cached_tokens,
                   k.reasoning_tokens, k.duration_ms, k.errors, k.rate_limited,
                   trim_scale(k.cost), trim_scale(k.ledger_cost), h.latencies, h.counts
            FROM keyed k
            LEFT JOIN histogram h ON h.bucket = k.bucket AND h.key IS NOT DISTINCT FROM k.key
            """
    }

    /// What the logs `entries`, which are new, add to the usage of `users`; `nil` for all users.
    ///
    /// - Throws: ``PostgresError``.
    package static func growth(
        by entries: [LogTail.Entry], of users: Set<Int64>?, on snapshot: ReportSnapshot
    ) throws -> [Growth] {
        guard entries.contains(where: { users?.contains($0.user) ?? true }) else { return [] }
        // Of all users: neighbours make fewer runs, and each run looks into every month of events.
        let runs = LogMark.Gap.runs(of: entries.map(\.position))
        return try snapshot.connection.query(growthStatement(runs, of: users?.sorted())).map { row in
            let (user, quarter, isSelfReported, status) = try row.decode(
                Int64.self, Int.self, Bool.self, String.self)
            var sums = UsageTotals()
            (sums.requests, sums.unpriced, sums.inputTokens, sums.outputTokens) = (
                try row.decode(4), try row.decode(5), try row.decode(6), try row.decode(7)
            )
            (sums.cachedTokens, sums.reasoningTokens, sums.duration) = (
                try row.decode(8), try row.decode(9), try row.decode(10)
            )
            (sums.pricedCost, sums.laravelCost) = (try row.decode(11), try row.decode(12))
            if status == EventStatus.error.rawValue { sums.errors = sums.requests }
            if status == EventStatus.rateLimited.rawValue { sums.rateLimited = sums.requests }
            return Growth(
                user: user, quarter: quarter, isSelfReported: isSelfReported, sums: sums,
                histogram: try row.decode(13))
        }
    }

    /// The statement on what the logs of `users` in `runs` contribute; `nil` for all users.
    static func growthStatement(_ runs: [LogMark.Gap], of users: [Int64]?) -> Query {
        let isCounted: Query = users.map { "WHERE f.user_id = ANY(\($0)::bigint[])" } ?? ""
        let (after, through) = (runs.map(\.after), runs.map(\.through))
        func facts(_ function: Query) -> Query {
            """
            SELECT f.* FROM unnest(\(after)::bigint[], \(through)::bigint[]) AS g (after, through)
                    CROSS JOIN LATERAL (SELECT * FROM metering.\(function)(g.after, g.through) OFFSET 0) f
            """
        }
        return """
            SELECT t.user_id, t.quarter, t.is_self_reported, t.status, t.requests, t.unpriced, t.input_tokens,
                   t.output_tokens, t.cached_tokens, t.reasoning_tokens, t.duration_ms,
                   trim_scale(t.cost), trim_scale(t.ledger_cost), t.histogram
            FROM (
                SELECT f.user_id, metering.quarter_of(f.occurred_at) AS quarter, f.is_self_reported, f.status,
                       \(RollupMeasures.ofFacts)
                -- OFFSET 0: else the planner reads all events of the users, and looks for their runs.
                FROM (
                    \(facts("event_facts"))
                    UNION ALL
                    \(facts("log_facts"))
                ) f
                \(isCounted)
                GROUP BY 1, 2, 3, 4
            ) t
            """
    }
}
