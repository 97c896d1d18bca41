import Domain
import Postgres
import Storage
import TestSupport

/// What the sums gained since a moment, held against the facts they were made of.
struct UsageGrowth: Sendable {
    /// Requests, tokens and cost, exact.
    private struct Sums: Equatable, CustomStringConvertible {
        var requests: Int
        var tokens: Int
        var cost: Money

        static func - (left: Sums, right: Sums) -> Sums {
            Sums(
                requests: left.requests - right.requests, tokens: left.tokens - right.tokens,
                cost: left.cost - right.cost)
        }

        var description: String { "\(requests) requests, \(tokens) tokens, cost \(cost)" }
    }

    /// Behind it, the facts that are new.
    let lastLogID: Int
    private let site: BenchSite
    private let since: Timestamp
    private let users: Sums
    private let everybody: Sums

    /// Begins when everything that is there is in the sums. Throws `PostgresError`.
    init(_ site: BenchSite) async throws {
        self.site = site
        since = Timestamp.now.advanced(by: .seconds(-7_200))
        _ = try await site.fold()
        lastLogID = try await site.number("SELECT last_value FROM public.api_logs_id_seq")
        users = try await Self.sums(site, since, "user_id <> 0")
        everybody = try await Self.sums(site, since, "user_id = 0")
    }

    /// Folds what is left and compares: users' sums and everybody's grew by the new facts, `count` of them.
    ///
    /// - Throws: ``WrongResult``.
    func require(_ count: Int) async throws {
        _ = try await site.fold()
        try await requireFolded(count)
    }

    /// Compares what is folded already. Throws ``WrongResult``.
    func requireFolded(_ count: Int) async throws {
        let facts = try await Self.sums(
            site,
            """
            SELECT count(*), coalesce(sum(input_tokens + output_tokens), 0)::bigint, coalesce(sum(cost), 0)
            FROM metering.events WHERE api_log_id > \(lastLogID)
            """)
        try WrongResult.require(
            facts.requests == count, "\(count) events were stored, there are \(facts.requests) facts.")
        let growth = [
            ("users'", try await Self.sums(site, since, "user_id <> 0") - users),
            ("everybody's", try await Self.sums(site, since, "user_id = 0") - everybody),
        ]
        for (whose, growth) in growth {
            try WrongResult.require(growth == facts, "The \(whose) sums grew by \(growth); the facts say \(facts).")
        }
    }

    private static func sums(_ site: BenchSite, _ since: Timestamp, _ whose: Query) async throws -> Sums {
        try await sums(
            site,
            """
            SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(input_tokens + output_tokens), 0)::bigint,
                   coalesce(sum(cost), 0)
            FROM metering.usage_quarters WHERE quarter >= metering.quarter_of(\(since)) AND \(whose)
            """)
    }

    private static func sums(_ site: BenchSite, _ query: Query) async throws -> Sums {
        try await site.pool.withConnection { connection in
            let (requests, tokens, cost) = try connection.query(query)[0].decode(Int.self, Int.self, Money.self)
            return Sums(requests: requests, tokens: tokens, cost: cost)
        }
    }
}

extension BenchSite {
    /// Folds everything that is final, as the worker does. What others than ingest wrote until now counts for no quota, as
    /// the counters are held against the facts alone.
    ///
    /// Throws what ``UsagePass`` throws.
    func fold() async throws -> UsagePass.Outcome {
        try await execute(
            "UPDATE metering.installation SET counted_log_id = (SELECT last_value FROM public.api_logs_id_seq)")
        return try await UsagePass(pool: pool, now: { .now }).run()
    }

    /// Tidies what reports read, as autovacuum does in time.
    func vacuumSums() async throws {
        try await pool.withConnection {
            try $0.executeScript(
                """
                VACUUM (ANALYZE) metering.usage_quarters, metering.usage_days, metering.usage_spans, metering.events
                """)
        }
    }
}
