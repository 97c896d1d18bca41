import Domain
import Postgres
import Storage
import TestSupport

/// What the database gained since a moment, counted in rows, facts and counters.
struct DatabaseGrowth: Sendable {
    /// Counted requests and tokens of the windows that a run can touch.
    private struct Counters: Equatable {
        var requests: Int
        var tokens: Int

        static func - (left: Counters, right: Counters) -> Counters {
            Counters(requests: left.requests - right.requests, tokens: left.tokens - right.tokens)
        }
    }

    private let site: BenchSite
    private let lastLogID: Int
    private let daily: Counters
    private let monthly: Counters
    private let since: Timestamp

    /// Begins at what is there now, deltas of others folded. Throws `PostgresError`.
    init(_ site: BenchSite) async throws {
        self.site = site
        try await Self.fold(site)
        since = Timestamp.now.advanced(by: .seconds(-86_400))
        lastLogID = try await site.number("SELECT last_value FROM public.api_logs_id_seq")
        daily = try await Self.counters(site, "daily", since)
        monthly = try await Self.counters(site, "monthly", since)
    }

    /// New rows of `api_logs`. Throws `PostgresError`.
    var logs: Int {
        get async throws { try await site.number("SELECT count(*) FROM public.api_logs WHERE id > \(lastLogID)") }
    }

    /// Folds the deltas that are left and compares: each of the new rows has its fact, and the counters grew by the facts.
    ///
    /// - Parameter acknowledged: How many events were acknowledged, and at most this many are stored: what was under way when
    ///   the load ended may be there too.
    /// - Throws: ``WrongResult``.
    func require(_ acknowledged: ClosedRange<Int>) async throws {
        let logs = try await logs
        try WrongResult.require(
            acknowledged.contains(logs),
            "\(acknowledged.lowerBound) events were acknowledged (at most \(acknowledged.upperBound) sent), "
                + "but api_logs grew by \(logs).")
        try await Self.fold(site)
        let (facts, truth) = try await newFacts()
        try WrongResult.require(facts == logs, "api_logs grew by \(logs) rows, metering.events by \(facts).")
        for (period, before) in [("daily", daily), ("monthly", monthly)] {
            let growth = try await Self.counters(site, period, since) - before
            try WrongResult.require(
                growth == truth,
                "The \(period) counters grew by \(growth.requests) requests and \(growth.tokens) tokens, "
                    + "the facts by \(truth.requests) and \(truth.tokens).")
        }
    }

    private static func fold(_ site: BenchSite) async throws {
        try await site.pool.withConnection { connection in
            while try connection.query("SELECT EXISTS (SELECT FROM metering.quota_deltas)")[0].decode(0, as: Bool.self)
            {
                _ = try QuotaCounters.addDeltas(connection, now: .now)
            }
        }
    }

    /// New facts, found by the index that ``FilledDatabase`` has for this question.
    private func newFacts() async throws -> (Int, Counters) {
        let lastLogID = lastLogID
        return try await site.pool.withConnection { connection in
            let (facts, requests, tokens) = try connection.query(
                """
                SELECT count(*), coalesce(sum(quota_requests), 0)::bigint, coalesce(sum(quota_tokens), 0)::bigint
                FROM metering.events
                WHERE api_log_id > \(lastLogID)
                """)[0].decode(Int.self, Int.self, Int.self)
            return (facts, Counters(requests: requests, tokens: tokens))
        }
    }

    private static func counters(_ site: BenchSite, _ period: String, _ since: Timestamp) async throws -> Counters {
        try await site.pool.withConnection { connection in
            let (requests, tokens) = try connection.query(
                """
                SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(tokens), 0)::bigint
                FROM metering.quota_usage
                WHERE period = \(period)
                  AND window_start >= date_trunc('month', \(since) AT TIME ZONE 'UTC')::date
                """)[0].decode(Int.self, Int.self)
            return Counters(requests: requests, tokens: tokens)
        }
    }
}
