import Domain
import Postgres
import Storage

/// Rows that wait and become sums: by the worker's pass with its cursor, windows and everybody's row, or by the one statement
/// that nobody can do without.
struct FoldBenchmark: Benchmark {
    let name: String
    let summary: String
    private let isBare: Bool
    private let rows: Int

    init(_ name: String, isBare: Bool = false, rows: Int = 200_000, _ summary: String) {
        self.name = name
        self.summary = summary
        self.isBare = isBare
        self.rows = rows
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let growth = try await UsageGrowth(site)
        let rows = rows
        let ids = try await site.pool.withConnection { connection in
            let ids = try EventBulk.insert(rows, now: .now, connection)
            try connection.executeScript("ANALYZE metering.events")
            return ids
        }
        let clock = ContinuousClock()
        let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
        let folded = isBare ? try await foldBare(ids, site) : try await site.fold().rows
        var measurement = Measurement(count: folded, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
        measurement.clientCPU = nil
        try WrongResult.require(folded == rows, "\(folded) of \(rows) rows were folded.")
        if isBare { try await completeBare(ids, site) }
        try await growth.requireFolded(rows)
        return measurement
    }

    /// The users' cells. All rows are behind the border of the days, so these have no part in it.
    private func foldBare(_ ids: ClosedRange<Int>, _ site: BenchSite) async throws -> Int {
        try await site.pool.transaction { connection in
            try connection.executeScript("SET LOCAL work_mem = '64MB'")
            try connection.execute(Self.insert(ids, user: "f.user_id", histogram: Self.histogram))
            return ids.count
        }
    }

    /// What the bare statement leaves out, so that the sums are whole again and nobody folds the rows once more.
    private func completeBare(_ ids: ClosedRange<Int>, _ site: BenchSite) async throws {
        try await site.pool.transaction { connection in
            try connection.execute(Self.insert(ids, user: "0::bigint", histogram: "metering.merged(\(Self.histogram))"))
            try connection.execute(
                """
                UPDATE metering.usage_cursor
                SET event_log_id = \(ids.upperBound), other_log_id = \(ids.upperBound), settled_log_id = \(ids.upperBound)
                """)
        }
    }

    private static let histogram: Query = "array_agg((metering.bucket_of(f.duration_ms) << 40) + 1)"

    private static func insert(_ ids: ClosedRange<Int>, user: Query, histogram: Query) -> Query {
        """
        INSERT INTO metering.usage_quarters AS u (
            user_id, quarter, dimension, requests, unpriced, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
            duration_ms, cost, ledger_cost, histogram)
        SELECT \(user), metering.quarter_of(f.occurred_at), d.dimension, count(*), count(*) - count(f.cost),
               sum(f.input_tokens), sum(f.output_tokens), sum(f.cached_tokens), sum(f.reasoning_tokens),
               sum(coalesce(f.duration_ms, 0)), coalesce(sum(f.cost), 0), sum(f.ledger_cost),
               \(histogram)
        FROM metering.event_facts(\(ids.lowerBound - 1)::bigint, \(ids.upperBound)::bigint) f
        JOIN metering.usage_dimensions d
            ON d.model = f.model AND d.status = f.status
            AND d.provider IS NOT DISTINCT FROM f.provider AND d.plan IS NOT DISTINCT FROM f.plan
        GROUP BY 1, 2, 3
        ON CONFLICT (user_id, quarter, dimension) DO UPDATE
        SET requests = u.requests + excluded.requests, unpriced = u.unpriced + excluded.unpriced,
            input_tokens = u.input_tokens + excluded.input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            cached_tokens = u.cached_tokens + excluded.cached_tokens,
            reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
            duration_ms = u.duration_ms + excluded.duration_ms, cost = u.cost + excluded.cost,
            ledger_cost = u.ledger_cost + excluded.ledger_cost,
            histogram = u.histogram || excluded.histogram
        """
    }
}
