import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Users in the order of what they used, made of runs of days.
@Suite struct UsageSpansTests {
    @Test func aRangeIsAFewRunsThatAreOver() {
        var random = SplitMix64(seed: 14)
        for _ in 0..<500 {
            let first = Int.random(in: 20_000...20_600, using: &random)
            let days = first..<(first + Int.random(in: 0...800, using: &random))
            // In the days, or behind them; the day of the border is in them at most in part.
            let border = Int.random(in: days.upperBound * 96 - 95...(days.upperBound + 40) * 96, using: &random)
            let spans = UsageSpans.cover(days, daysBefore: border)
            #expect(spans.flatMap { Array($0.first..<$0.first + $0.days) } == Array(days))
            #expect(
                spans.allSatisfy { span in
                    span.first % span.days == 0 && (span.days == 1 || (span.first + span.days) * 96 <= border)
                })
            // Two of each length, and years in the longest.
            #expect(spans.count <= 2 * 9 + days.count / 256)
        }
    }

    private struct Question: Sendable {
        var zone: String
        var from: String
        var to: String
        var ranking = UsageRanking.requests
        var models: Set<String> = []
    }

    private static let questions = [
        Question(zone: "UTC", from: "2026-10-25", to: "2026-11-24"),
        Question(zone: "UTC", from: "2026-01-01", to: "2027-01-01", ranking: .cost),
        Question(zone: "Europe/Istanbul", from: "2026-10-25", to: "2026-11-24", ranking: .tokens),
        Question(zone: "Pacific/Chatham", from: "2026-03-13", to: "2026-09-29", ranking: .cost),
        Question(zone: "America/New_York", from: "2026-11-20", to: "2026-11-21"),
        Question(zone: "Asia/Kolkata", from: "2026-05-05", to: "2026-11-24", ranking: .cost, models: ["claude"]),
    ]

    @Test func theOrderIsThatOfAPlainQueryWhateverComesLate() async throws {
        try await Ledger.with { ledger in
            var users: [Int64] = []
            // Some with many calls, some with one, and several with equal ones.
            for index in 0..<30 {
                users.append(try await ledger.makeUser())
                try await ledger.fill(
                    users[index], count: [1, 1, 7, 40, 150][index % 5], from: "2026-01-10", to: "2026-11-23 11:59:00",
                    seed: index / 10)
            }
            try await Self.compare(ledger, "tail only")
            try await ledger.fold()
            try await Self.compare(ledger, "folded")
            #expect(try await ledger.number("SELECT max(days)::bigint FROM metering.usage_spans") == 256)
            // Late, some for users of whom there was nothing yet, on days of whom there was.
            for index in 0..<10 {
                users.append(try await ledger.makeUser())
                try await ledger.fill(
                    users[index * 4], count: 20, from: "2026-01-10", to: "2026-11-23 11:59:00", seed: 50 + index)
            }
            try await Self.compare(ledger, "late rows behind the cursor")
            try await ledger.fold()
            try await Self.compare(ledger, "late rows folded")
            // The border goes on over days with usage and, with runs that end in them, days without any.
            for days in [1, 1, 1, 40] {
                ledger.clock.advance(by: .seconds(86_400 * Int64(days)))
                if days == 1 { try await ledger.writeAsLaravel(users[3], at: "2026-11-24 11:00:00") }
                try await ledger.fold()
            }
            try await Self.compare(ledger, "later")
            #expect(try await ledger.verify().findings == [])
        }
    }

    private static func compare(_ ledger: Ledger, _ state: String) async throws {
        for question in questions {
            let expected = try await ledger.plainOrder(
                question.zone, question.from, question.to, question.ranking, Array(question.models))
            for limit in [1_000, 7] {
                let (parts, others) = try await ledger.admin.withConnection { connection in
                    let zone = try TimeZoneName.require(question.zone, connection)
                    let range = try ReportRange(
                        from: zone.start(of: question.from, connection), to: zone.start(of: question.to, connection),
                        zone: zone)
                    return try UsageSnapshot.take(connection) { snapshot in
                        var (parts, others): ([UsageBreakdown.Part], [UsageBreakdown.Others]) = ([], [])
                        var place: UsageBreakdown.Place?
                        repeat {
                            let page = try UsageBreakdown(
                                UsageScope(models: question.models), range, by: .user, after: place, limit: limit,
                                rankedBy: question.ranking, hasLatency: true, snapshot)
                            parts += page.parts
                            if let rest = page.others { others.append(rest) }
                            place = page.next
                        } while place != nil
                        return (parts, others)
                    }
                }
                let found = parts.map { "\($0.key ?? "-") \($0.sums.requests) \($0.sums.tokens) \($0.sums.ledgerCost)" }
                #expect(found.joined(separator: "\n") == expected ?? "", "\(question), \(state)")
                #expect(parts.allSatisfy { $0.latency.duration != nil })
                for (page, rest) in others.enumerated() {
                    let behind = parts.dropFirst((page + 1) * limit)
                    #expect(rest.groups == behind.count, "\(question), \(state)")
                    #expect(rest.sums == behind.reduce(UsageSums()) { $0 + $1.sums }, "\(question), \(state)")
                }
            }
        }
    }

    @Test func wrongRunsAreFoundAndMended() async throws {
        try await Ledger.with { ledger in
            let (ada, bob) = (try await ledger.makeUser(), try await ledger.makeUser())
            for user in [ada, bob] {
                try await ledger.fill(user, count: 400, from: "2026-06-01", to: "2026-11-23 11:59:00", seed: Int(user))
            }
            try await ledger.fold()
            #expect(try await ledger.verify().findings == [])
            let (requests, start) = try await ledger.pool.withConnection { connection in
                try connection.query(
                    """
                    UPDATE metering.usage_spans SET requests = requests + 5
                    WHERE user_id = \(ada) AND days = 64 AND first_day <= '2026-08-15' AND first_day + days > '2026-08-15'
                    RETURNING requests, to_char(first_day, 'YYYY-MM-DD')
                    """)[0].decode(Int64.self, String.self)
            }
            #expect(
                try await ledger.verify().findings.map {
                    "\($0.level) \($0.user) \($0.bucket) \($0.dimension) \($0.difference)"
                }
                .first == "spans \(ada) \(start)T00:00:00Z 64 days requests \(requests), should be \(requests - 5)")
            try await ledger.execute("DELETE FROM metering.usage_spans WHERE user_id = \(bob) AND days IN (1, 8)")
            try await ledger.execute(
                """
                INSERT INTO metering.usage_spans VALUES (1, '2026-08-15', 999, 1, 1, 0), (32, '2026-07-05', \(bob), 1, 1, 0),
                    (256, '2026-11-10', \(ada), 1, 1, 0)
                """)
            // 2026-08-15 and 2026-11-23, as days since 1970.
            let mended = try await UsageRebuild(pool: ledger.worker).mend(
                UsageRange(from: 20_680, to: 20_681, user: ada)
            ) {
                _, _ in
            }
            #expect(mended.cells > 0)
            #expect(try await ledger.verify(UsageRange(from: 20_680, to: 20_681, user: ada)).findings == [])
            _ = try await UsageRebuild(pool: ledger.worker).mend(UsageRange(from: 20_550, to: 20_800)) { _, _ in }
            #expect(try await ledger.verify().findings == [])
        }
    }

    /// What version 13 had in its days is in runs, as if they had been there from the beginning.
    @Test func anOlderVersionsDaysBecomeRuns() async throws {
        try await Ledger.with { ledger in
            for seed in 1...3 {
                try await ledger.fill(
                    try await ledger.makeUser(), count: 300, from: "2026-01-10", to: "2026-11-23 11:59:00", seed: seed)
            }
            try await ledger.fold()
            let runs: Query =
                "SELECT string_agg(s::text, ' ' ORDER BY s.days, s.first_day, s.user_id) FROM metering.usage_spans s"
            let before = try await ledger.text(runs)
            #expect(before?.isEmpty == false)
            try await ledger.execute("DROP TABLE metering.usage_spans")
            let migration = try #require(try Migration.load(from: Checkout.migrations).first { $0.version == 14 })
            try await ledger.pool.withConnection { try $0.executeScript(migration.sql) }
            #expect(try await ledger.text(runs) == before)
        }
    }
}

extension Ledger {
    /// `user requests tokens cost` in the order of the measure, a line each, from Laravel's table.
    fileprivate func plainOrder(
        _ zone: String, _ from: String, _ to: String, _ ranking: UsageRanking, _ models: [String]
    )
        async throws -> String?
    {
        let weight: Query =
            switch ranking {
            case .requests: "requests"
            case .tokens: "tokens"
            case .cost: "cost"
            }
        return try await text(
            """
            SELECT string_agg(concat_ws(' ', user_id, requests, tokens, cost), E'\\n' ORDER BY \(weight) DESC, user_id)
            FROM (
                SELECT l.user_id, count(*) AS requests, sum(l.input_tokens + l.output_tokens) AS tokens,
                       trim_scale(sum(l.total_cost)) AS cost
                FROM api_logs l
                WHERE (l.created_at AT TIME ZONE 'UTC') AT TIME ZONE \(zone) >= \(from)::timestamp
                  AND (l.created_at AT TIME ZONE 'UTC') AT TIME ZONE \(zone) < \(to)::timestamp
                  AND (cardinality(\(models)::text[]) = 0 OR l.model = ANY(\(models)::text[]))
                GROUP BY 1
            ) x
            """)
    }
}
