package import Analytics
internal import Domain
internal import Postgres
internal import Storage

extension StorageBench {
    /// Runs a pass as the worker does.
    @discardableResult
    package func rollUp(
        window: Int = 50_000, timeout: Duration = .milliseconds(200), goesOn: Bool = true
    ) async throws -> RollupPass.Outcome {
        let clock = clock
        let pass = RollupPass(pool: worker, window: window, timeout: timeout, now: { clock.now })
        return try await pass.run(progress: { _ in goesOn })
    }

    /// What `verify` finds.
    package func verify(_ range: RollupRange = RollupRange()) async throws -> RollupVerification.Report {
        try await pool.withConnection { try RollupVerification.verify(range, $0) }
    }

    /// What a report on `user` adds up, 0 for all users: rollups and pending logs in one snapshot, a line for each
    /// 15 minutes and dimension.
    package func usage(of user: Int64) async throws -> String? {
        try await text(
            """
            WITH cursor AS (SELECT * FROM metering.rollup_watermark), tail AS (
                SELECT f.* FROM cursor, metering.event_facts(event_log_id, 9223372036854775807) f
                UNION ALL
                SELECT f.* FROM cursor, metering.log_facts(other_log_id, 9223372036854775807) f
            ), cell AS (
                SELECT u.quarter, d.model, d.provider, d.status, d.plan, u.requests, u.unpriced, u.input_tokens,
                       u.output_tokens, u.cached_tokens, u.reasoning_tokens, u.duration_ms, u.cost,
                       u.ledger_cost, u.histogram
                FROM metering.rollup_15m u JOIN metering.rollup_dimension d USING (dimension)
                WHERE u.user_id = \(user)
                UNION ALL
                SELECT metering.quarter_of(f.occurred_at), f.model, f.provider, f.status, f.plan, 1,
                       (f.cost IS NULL)::int, f.input_tokens, f.output_tokens, f.cached_tokens, f.reasoning_tokens,
                       coalesce(f.duration_ms, 0), coalesce(f.cost, 0), f.ledger_cost,
                       array_remove(ARRAY[(metering.bucket_of(f.duration_ms) << 40) + 1,
                                          (metering.bucket_of(f.first_token_ms) + 2000 << 40) + 1], NULL)
                FROM tail f WHERE f.user_id = \(user) OR \(user) = 0 AND NOT f.is_self_reported
            ), total AS (
                SELECT metering.quarter_start(quarter) AS start, model, provider, status, plan,
                       sum(requests), sum(unpriced), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
                       sum(reasoning_tokens), sum(duration_ms), trim_scale(sum(cost)), trim_scale(sum(ledger_cost)),
                       metering.merged(metering.joined(histogram))
                FROM cell GROUP BY 1, 2, 3, 4, 5
            )
            SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM total t
            """)
    }

    /// Requests of `user` in rollups and pending logs, 0 for all users.
    package func requests(of user: Int64) async throws -> Int {
        try await number(
            """
            SELECT coalesce((SELECT sum(requests) FROM metering.rollup_15m WHERE user_id = \(user)), 0)
                + (SELECT count(*) FROM metering.event_facts(c.event_log_id, 9223372036854775807) f
                   WHERE f.user_id = \(user) OR \(user) = 0 AND NOT f.is_self_reported)
                + (SELECT count(*) FROM metering.log_facts(c.other_log_id, 9223372036854775807) f
                   WHERE f.user_id = \(user) OR \(user) = 0 AND NOT f.is_self_reported)
            FROM metering.rollup_watermark c
            """)
    }

    /// A row that Laravel writes by itself.
    package func writeAsLaravel(
        _ user: Int64, at createdAt: String? = "2026-11-23 11:59:00", cost: String = "0.001500",
        status: String = "success"
    ) async throws {
        try await execute(
            """
            INSERT INTO public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                         status, created_at, updated_at)
            VALUES (\(user), 'gpt-4', 100, 50, \(cost)::numeric, 1250, \(status),
                    \(createdAt as String?)::timestamp, now())
            """)
    }
}
