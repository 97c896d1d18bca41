import Analytics
import Domain
import Postgres
import Storage
import TestSupport

/// Compares what the database gained: logs, events and counters.
struct StoredGrowth: Sendable {
    /// Counted requests and tokens of the periods that a run can change.
    fileprivate struct Counters: Equatable {
        var requests: Int
        var tokens: Int

        static func - (left: Counters, right: Counters) -> Counters {
            Counters(requests: left.requests - right.requests, tokens: left.tokens - right.tokens)
        }
    }

    fileprivate let site: BenchSite
    fileprivate let lastLogID: Int
    fileprivate let daily: Counters
    fileprivate let monthly: Counters
    fileprivate let since: Timestamp

    /// Adds pending deltas to the counters, and begins with the present state.
    ///
    /// - Throws: ``PostgresError``.
    static func begin(_ site: BenchSite) async throws -> StoredGrowth {
        try await addDeltas(site)
        let since = Timestamp.now.advanced(by: .seconds(-86_400))
        return StoredGrowth(
            site: site, lastLogID: try await site.number("SELECT last_value FROM public.api_logs_id_seq"),
            daily: try await counters(site, "daily", since), monthly: try await counters(site, "monthly", since),
            since: since)
    }

    /// The number of new logs.
    ///
    /// - Throws: ``PostgresError``.
    var logs: Int {
        get async throws { try await site.number("SELECT count(*) FROM public.api_logs WHERE id > \(lastLogID)") }
    }

    /// Adds pending deltas to the counters and compares: each new log has its event, and the counters grew by the
    /// events.
    ///
    /// `acknowledged` begins with the number of acknowledged events. Its end is the number of sent events, because
    /// requests that had no answer at the end of the load may be stored too.
    ///
    /// - Throws: ``WrongResult`` when the growth differs; ``PostgresError``.
    func require(_ acknowledged: ClosedRange<Int>) async throws {
        let logs = try await logs
        try WrongResult.require(
            acknowledged.contains(logs),
            "\(acknowledged.lowerBound) events were acknowledged (at most \(acknowledged.upperBound) sent), "
                + "but api_logs grew by \(logs).")
        try await Self.addDeltas(site)
        let (events, truth) = try await newEvents()
        try WrongResult.require(events == logs, "api_logs grew by \(logs) rows, metering.events by \(events).")
        for (period, before) in [("daily", daily), ("monthly", monthly)] {
            let growth = try await Self.counters(site, period, since) - before
            try WrongResult.require(
                growth == truth,
                "The \(period) counters grew by \(growth.requests) requests and \(growth.tokens) tokens, "
                    + "the events by \(truth.requests) and \(truth.tokens).")
        }
    }

    private static func addDeltas(_ site: BenchSite) async throws {
        try await site.pool.withConnection { connection in
            while try connection.query("SELECT EXISTS (SELECT FROM metering.quota_deltas)")[0].decode(0, as: Bool.self)
            {
                _ = try QuotaCounters.addDeltas(connection, now: .now)
            }
        }
    }

    /// The new events, by the index that ``Filling`` makes for this query.
    private func newEvents() async throws -> (Int, Counters) {
        let lastLogID = lastLogID
        return try await site.pool.withConnection { connection in
            let (events, requests, tokens) = try connection.query(
                """
                SELECT count(*), coalesce(sum(quota_requests), 0)::bigint, coalesce(sum(quota_tokens), 0)::bigint
                FROM metering.events
                WHERE api_log_id > \(lastLogID)
                """)[0].decode(Int.self, Int.self, Int.self)
            return (events, Counters(requests: requests, tokens: tokens))
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

/// Compares what the rollups gained with the new events.
struct RollupGrowth: Sendable {
    /// Requests, tokens and cost, exact.
    fileprivate struct Sums: Equatable, CustomStringConvertible {
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

    /// Events after it are new.
    let lastLogID: Int
    fileprivate let site: BenchSite
    fileprivate let since: Timestamp
    fileprivate let users: Sums
    fileprivate let allUsers: Sums

    /// Rolls up all pending logs, and begins with the present state.
    ///
    /// - Throws: ``PostgresError``.
    static func begin(_ site: BenchSite) async throws -> RollupGrowth {
        let since = Timestamp.now.advanced(by: .seconds(-7_200))
        _ = try await site.rollUp()
        return RollupGrowth(
            lastLogID: try await site.number("SELECT last_value FROM public.api_logs_id_seq"), site: site, since: since,
            users: try await sums(site, since, "user_id <> 0"), allUsers: try await sums(site, since, "user_id = 0"))
    }

    /// Rolls up pending logs and compares: the rollups of users and those of all users grew by `count` new events.
    ///
    /// - Throws: ``WrongResult`` when the growth differs; ``PostgresError``.
    func require(_ count: Int) async throws {
        _ = try await site.rollUp()
        try await requireRolledUp(count)
    }

    /// Compares what is rolled up already.
    ///
    /// - Throws: ``WrongResult`` when the growth differs; ``PostgresError``.
    func requireRolledUp(_ count: Int) async throws {
        let events = try await Self.sums(
            site,
            """
            SELECT count(*), coalesce(sum(input_tokens + output_tokens), 0)::bigint, coalesce(sum(cost), 0)
            FROM metering.events WHERE api_log_id > \(lastLogID)
            """)
        try WrongResult.require(
            events.requests == count, "\(count) events were stored, metering.events has \(events.requests).")
        let growth = [
            ("single users", try await Self.sums(site, since, "user_id <> 0") - users),
            ("all users", try await Self.sums(site, since, "user_id = 0") - allUsers),
        ]
        for (whose, growth) in growth {
            try WrongResult.require(
                growth == events, "The rollups of \(whose) grew by \(growth), the events by \(events).")
        }
    }

    private static func sums(_ site: BenchSite, _ since: Timestamp, _ whose: Query) async throws -> Sums {
        try await sums(
            site,
            """
            SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(input_tokens + output_tokens), 0)::bigint,
                   coalesce(sum(cost), 0)
            FROM metering.rollup_15m WHERE quarter >= metering.quarter_of(\(since)) AND \(whose)
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
    /// Rolls up all logs before the commit horizon, as the worker does. Logs of other programs than ingest count for no
    /// quota, because the counters are compared with the events only.
    ///
    /// - Throws: ``PostgresError``.
    func rollUp() async throws -> RollupPass.Outcome {
        try await execute(
            "UPDATE metering.installation SET counted_log_id = (SELECT last_value FROM public.api_logs_id_seq)")
        return try await RollupPass(pool: pool, now: { .now }).run()
    }

    /// Vacuums the tables that reports read, as autovacuum does later.
    ///
    /// - Throws: ``PostgresError``.
    func vacuumRollups() async throws {
        try await pool.withConnection {
            try $0.executeScript(
                """
                VACUUM (ANALYZE) metering.rollup_15m, metering.rollup_day, metering.rollup_span, metering.events
                """)
        }
    }
}
