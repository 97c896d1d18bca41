import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Error codes, tags and end users, call by call.
@Suite(.timeLimit(.minutes(30))) struct EventBreakdownTests {
    private static let day = Timestamp(microseconds: StorageBench.noon.microseconds / 86_400_000_000 * 86_400_000_000)

    @Test func whatOnlyCallsKnow() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            let events = (0..<30).map { index in
                var event = UsageEvent.sample(
                    UInt64(index), by: .user(index % 5 == 4 ? bob : ada), at: StorageBench.noon)
                if index % 3 == 0 { (event.status, event.errorCode) = (.error, index % 2 == 0 ? "500" : "timeout") }
                event.tags = index % 2 == 0 ? ["batch", "team-\(index % 4)"] : []
                event.endUser = index % 10 == 0 ? "carol" : nil
                return event
            }
            _ = try await bench.write(events)
            try await bench.writeAsLaravel(ada)
            let range = try ReportRange(from: Self.day, to: Self.day.advanced(by: .seconds(86_400)))
            let (codes, tags, endUsers, bobs) = try await bench.report { snapshot in
                try (
                    EventBreakdown.read(.allUsers, range, by: .errorCode, on: snapshot),
                    EventBreakdown.read(.allUsers, range, by: .tag, limit: 2, on: snapshot),
                    EventBreakdown.read(.user(ada), range, by: .endUser, on: snapshot),
                    EventBreakdown.read(UsageScope(user: bob, statuses: [.error]), range, by: .errorCode, on: snapshot)
                )
            }
            #expect(
                codes.groups.map { "\($0.key ?? "-") \($0.sums.requests) \($0.sums.errors)" } == [
                    "- 20 0", "500 5 5", "timeout 5 5",
                ])
            #expect(codes.total.requests == 30)
            #expect(codes.total.laravelCost == Money("0.045"))
            #expect(tags.groups.map { "\($0.key ?? "-") \($0.sums.requests)" } == ["batch 15", "- 15"])
            #expect(tags.others?.groups == 2)
            #expect(tags.others?.sums.requests == 15)
            #expect(tags.total.requests == 30)
            #expect(endUsers.groups.map { "\($0.key ?? "-") \($0.sums.requests)" } == ["- 21", "carol 3"])
            #expect(bobs.groups.map { "\($0.key ?? "-") \($0.sums.requests)" } == ["500 1", "timeout 1"])
        }
    }

    @Test func aRangeOfTooManyCallsIsRefusedWithOneThatIsNot() async throws {
        try await StorageBench.with { bench in
            // As after millions of calls: 400,000 a day.
            try await bench.fill(
                try await bench.makeUser(), count: 100, from: "2026-11-10", to: "2026-11-23 11:00:00")
            try await bench.rollUp()
            for table in ["rollup_15m", "rollup_day"] {
                try await bench.execute(
                    "UPDATE metering.\(unsafeSQL: table) SET requests = requests * 50000 WHERE user_id = 0")
            }
            let end = Self.day.advanced(by: .seconds(86_400))
            let range = try ReportRange(from: end.advanced(by: .seconds(-86_400 * 10)), to: end)
            let error = await #expect(throws: AppError.self) {
                try await bench.report { try EventBreakdown.read(.allUsers, range, by: .tag, on: $0) }
            }
            let words = error?.message.split(separator: " ") ?? []
            let days = words.firstIndex(of: "last").flatMap { Int(words[$0 + 1]) } ?? 0
            #expect((1..<10).contains(days))
            // What it offers, it gives; a day more, it does not.
            let offer = try ReportRange(from: end.advanced(by: .seconds(-86_400 * days)), to: end)
            _ = try await bench.report { try EventBreakdown.read(.allUsers, offer, by: .tag, on: $0) }
            let more = try ReportRange(from: end.advanced(by: .seconds(-86_400 * (days + 1))), to: end)
            _ = await #expect(throws: AppError.self) {
                try await bench.report { try EventBreakdown.read(.allUsers, more, by: .tag, on: $0) }
            }
        }
    }

    @Test func aShortRangeReadsNoTableWhole() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.execute(
                """
                INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                    cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream,
                    is_cache_hit, shape, status, plan, model_group)
                SELECT metering.event_key_floor('2026-11-05'::timestamptz + g * interval '1 minute'), g, \(user),
                    '2026-11-05'::timestamptz + g * interval '1 minute', 1, 1, 0, 0, 0, 2, 1, false, false,
                    'litellm', 'success', 'pro', 'gpt-4'
                FROM generate_series(1, 30000) g
                """)
            try await bench.execute("VACUUM ANALYZE metering.events")
            let range = try ReportRange(from: Self.day, to: Self.day.advanced(by: .seconds(86_400)))
            let scans = try await bench.sequentialScans {
                for group in EventGroup.allCases {
                    let calls = try await bench.report { snapshot in
                        let place = DecimalLiteral("1441").map { UsageBreakdown.PageEnd(weight: $0, key: "x") }
                        let pages = try [nil, place].map { place in
                            try EventBreakdown.read(.user(user), range, by: group, after: place, on: snapshot)
                        }
                        return pages.map(\.total.requests)
                    }
                    #expect(calls == [1440, 1440])
                }
            }
            #expect(scans == [:])
        }
    }
}
