import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// The comparison of LiteLLM's table of calls with our events.
@Suite(.timeLimit(.minutes(30))) struct ReconciliationTests {
    private static let hash = KeyHash(of: "cf_ada")
    private static let day =
        StorageBench.noon.advanced(by: .seconds(-43_200))..<StorageBench.noon.advanced(by: .seconds(43_200))

    /// `body` with LiteLLM's table, as far as it is read (`litellm-proxy-extras`, schema.prisma).
    private static func with(_ body: @escaping @Sendable (StorageBench) async throws -> Void) async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                CREATE TABLE "LiteLLM_SpendLogs" (
                    request_id text PRIMARY KEY, call_type text NOT NULL DEFAULT 'acompletion', api_key text NOT NULL,
                    spend double precision NOT NULL DEFAULT 0, prompt_tokens integer NOT NULL DEFAULT 0,
                    completion_tokens integer NOT NULL DEFAULT 0, "startTime" timestamp(3) NOT NULL,
                    "endTime" timestamp(3) NOT NULL, "completionStartTime" timestamp(3), model text NOT NULL DEFAULT '',
                    model_group text, custom_llm_provider text, "user" text, metadata jsonb DEFAULT '{}',
                        cache_hit text,
                    request_tags jsonb, end_user text, status text)
                """)
            try await bench.execute(#"CREATE INDEX ON "LiteLLM_SpendLogs" ("startTime")"#)
            try await body(bench)
        }
    }

    private static func insert(
        _ id: String, at start: String, spend: String = "0.0022500000000000003", call: String? = nil,
        status: String = "success", key: String = hash.hex, _ bench: StorageBench
    ) async throws {
        try await bench.execute(
            """
            INSERT INTO "LiteLLM_SpendLogs" (request_id, api_key, spend, prompt_tokens, completion_tokens, "startTime",
                "endTime", "completionStartTime", model_group, cache_hit, status, metadata)
            VALUES (\(id), \(key), \(spend)::float8, 100, 50, \(start)::timestamp,
                \(start)::timestamp + interval '1.5 seconds',
                \(start)::timestamp + interval '1.5 seconds', 'gpt-4', 'False', \(status),
                jsonb_build_object('spend_logs_metadata', jsonb_build_object('codexflow_call', \(call)::text)))
            """)
    }

    @Test func sumsAreOfServedCallsOfCustomersByTheHourInWhichOursBegan() async throws {
        try await Self.with { bench in
            try await Self.insert("a", at: "2026-11-23 09:59:59.999", bench)
            // Our module admitted the call at 10:59:59.900. LiteLLM's row begins after a failed attempt.
            try await Self.insert(
                "b", at: "2026-11-23 11:00:02", call: Self.name(10 * 3_600_000 + 3_599_900), bench)
            try await Self.insert("c", at: "2026-11-23 11:00:02", spend: "NaN", bench)
            try await Self.insert("d", at: "2026-11-23 11:00:02", status: "failure", bench)
            try await bench.execute(
                #"""
                UPDATE "LiteLLM_SpendLogs" SET prompt_tokens = 0, completion_tokens = 0, spend = 0
                WHERE request_id = 'd'
                """#)
            try await Self.insert("e", at: "2026-11-23 11:00:02", key: "litellm_proxy_master_key", bench)
            try await Self.insert("f", at: "2026-11-24 00:00:00", bench)
            let sums = try await bench.pool.withConnection { try SpendLogs.sums(Self.day, $0) }
            let found = sums.map { "\($0.key.start.rfc3339) \($0.value.calls) \($0.value.tokens) \($0.value.cost)" }
            #expect(
                found.sorted() == [
                    "2026-11-23T09:00:00.000Z 1 150 0.00225", "2026-11-23T10:00:00.000Z 1 150 0.00225",
                    "2026-11-23T11:00:00.000Z 1 150 0",
                ])
        }
    }

    /// Since LiteLLM 1.109 a stream that broke off may have a cost.
    @Test func aFailureThatCostIsCountedFoundAndTaken() async throws {
        try await Self.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            let call = Self.name(43_200_000)
            try await Self.insert("f", at: "2026-11-23 12:00:00.25", call: call, status: "failure", bench)
            try await Self.insert("free", at: "2026-11-23 12:00:00.25", spend: "0", status: "failure", bench)
            try await Self.insert("nan", at: "2026-11-23 12:00:00.25", spend: "NaN", status: "failure", bench)
            try await bench.execute(
                #"""
                UPDATE "LiteLLM_SpendLogs" SET prompt_tokens = 0, completion_tokens = 0
                WHERE request_id IN ('free', 'nan');
                """#)
            try await bench.execute(
                #"""
                UPDATE "LiteLLM_SpendLogs" SET metadata = metadata || '{"error_information": {"error_code": "500",
                    "error_class": "APIError", "error_message": "cut ''off''", "traceback": "x"}}'
                WHERE request_id = 'f'
                """#)
            let sums = try await bench.pool.withConnection { try SpendLogs.sums(Self.day, $0) }
            #expect(sums.values.map { "\($0.calls) \($0.tokens) \($0.cost)" } == ["1 150 0.00225"])
            let calls = try await bench.pool.withConnection {
                try SpendLogs.page(Self.day, keys: [Self.hash.hex], after: nil, $0).calls
            }
            #expect(calls.count == 1 && calls[0].failedAt?.rfc3339 == "2026-11-23T12:00:01.750Z")
            for part in [#""status" : "failure""#, #""error_code" : "500""#, #""error_class" : "APIError""#] {
                #expect(calls[0].event.contains(part), "\(calls[0].event) lacks \(part)")
            }
            // Our event of the attempt has another id. It is found by its key, its tokens and its start.
            var event = UsageEvent.sample(7, by: .key("cf_ada"), at: StorageBench.noon.advanced(by: .milliseconds(250)))
            event.status = .error
            let key = event.key
            let items = calls.map { call in
                (item: IngestItem(.success(.sample(1, by: .hash(of: "cf_ada"), at: StorageBench.noon))), call: call)
            }
            func state() async throws -> [ServedCalls.State] {
                try await bench.service.withConnection { try ServedCalls.find(items, $0) }
            }
            #expect(try await state() == [.missing])
            _ = try await bench.write([event])
            #expect(try await state() == [.here])
            let ours = try await bench.service.withConnection { try ServedCalls.sums(Self.day, $0) }
            #expect(ours.values.map(\.calls) == [1])
            // A withdrawn event is not stored again.
            _ = try await bench.operator.transaction {
                try EventWithdrawal.withdraw(.key(key), reason: nil, $0, now: StorageBench.noon)
            }
            #expect(try await state() == [.aside])
            #expect(user > 0)
        }
    }

    @Test func anEventHasTheNumbersThatPythonWrites() async throws {
        try await Self.with { bench in
            let call = Self.name(43_200_100)
            try await Self.insert(
                "x_cache_hit1795435200.5", at: "2026-11-23 12:00:01", spend: "5e-07", call: call, bench)
            try await Self.insert("y", at: "2026-11-23 12:00:02", spend: "0", bench)
            let page = try await bench.pool.withConnection {
                try SpendLogs.page(Self.day, keys: [Self.hash.hex], after: nil, $0)
            }
            #expect(page.next == nil)
            #expect(page.calls.map(\.isIdempotent) == [true, false])
            for part in [
                #""id" : "x""#, #""litellm_call_id" : "\#(call)""#, #""startTime" : 1795435200.1,"#,
                #""response_cost" : 5e-07,"#, #""user_api_key_hash" : "\#(Self.hash.hex)""#, #""stream" : false"#,
            ] {
                #expect(page.calls[0].event.contains(part), "\(page.calls[0].event) lacks \(part)")
            }
            #expect(page.calls[1].event.contains(#""startTime" : 1795435202.0,"#))
            #expect(page.calls[1].event.contains(#""response_cost" : 0.0,"#))
        }
    }

    @Test func pagesKeepWhatBeganTogether() async throws {
        try await Self.with { bench in
            try await bench.execute(
                """
                INSERT INTO "LiteLLM_SpendLogs" (request_id, api_key, "startTime", "endTime")
                SELECT g::text, \(Self.hash.hex), '2026-11-23 12:00'::timestamp + g / 7 * interval '1 ms',
                    '2026-11-23 13:00'
                FROM generate_series(0, \(SpendLogs.pageSize * 2)) g
                """)
            var (cursor, sizes): (String?, [Int]) = (nil, [])
            repeat {
                let after = cursor
                let page = try await bench.pool.withConnection {
                    try SpendLogs.page(Self.day, keys: [Self.hash.hex], after: after, $0)
                }
                sizes.append(page.calls.count)
                cursor = page.next
            } while cursor != nil
            #expect(sizes.count >= 2)
            #expect(sizes.reduce(0, +) == SpendLogs.pageSize * 2 + 1)
            #expect(sizes.dropLast().allSatisfy { $0 % 7 == 0 })
        }
    }

    @Test func noStatementReadsOurWholeHistory() async throws {
        try await Self.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            try await bench.execute(
                """
                INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                    cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream,
                        is_cache_hit,
                    shape, status, plan, model_group, key_hash)
                SELECT metering.event_key_floor('2026-11-01'::timestamptz + g * interval '1 second'), g, \(user),
                    '2026-11-01'::timestamptz + g * interval '1 second', 1, 1, 0, 0, 0, 2, 1, false, false, 'litellm',
                    'success', 'pro', 'gpt-4', \(Self.hash.bytes)
                FROM generate_series(1, 20000) g
                """)
            try await bench.execute(
                """
                INSERT INTO metering.quarantine (id, reason, detail, key_hashes, received_at, last_received_at,
                                                 deliveries, is_replayable, next_attempt_at)
                SELECT gen_random_uuid(), 'unknown_key', '', '{}', now(), now(), 1, false, now()
                FROM generate_series(1, 20000)
                """)
            try await bench.execute(
                """
                INSERT INTO "LiteLLM_SpendLogs" (request_id, api_key, "startTime", "endTime")
                SELECT g::text, \(Self.hash.hex), '2026-11-01'::timestamp + g * interval '1 minute', '2026-12-01'
                FROM generate_series(1, 40000) g
                """)
            try await bench.execute("ANALYZE")
            let range = StorageBench.noon..<StorageBench.noon.advanced(by: .seconds(3600))
            let calls = (0..<50).map { index in
                (
                    item: IngestItem(
                        .success(.sample(UInt64(index), by: .hash(of: "cf_ada"), at: StorageBench.noon))),
                    call: SpendLogs.Call(
                        hourOfKey: .init(hour: 0, keyHash: Self.hash.hex), event: "",
                        isIdempotent: index.isMultiple(of: 2))
                )
            }
            let scans = try await bench.sequentialScans {
                for _ in 0..<3 {
                    let sums = try await bench.service.withConnection { try ServedCalls.sums(range, $0) }
                    #expect(sums.isEmpty)
                    let states = try await bench.service.withConnection { try ServedCalls.find(calls, $0) }
                    #expect(states == Array(repeating: .missing, count: 50))
                    let theirs = try await bench.pool.withConnection { try SpendLogs.sums(range, $0) }
                    #expect(theirs.count == 1)
                    _ = try await bench.pool.withConnection {
                        try SpendLogs.page(range, keys: [Self.hash.hex], after: nil, $0)
                    }
                }
            }
            #expect(scans == [:])
        }
    }

    /// The UUID that our module gives a call so many milliseconds after the sample's midnight.
    private static func name(_ milliseconds: Int64) -> String {
        let digits = String(day.lowerBound.milliseconds + milliseconds, radix: 16)
        let time = String(repeating: "0", count: 12 - digits.count) + digits
        return "\(time.prefix(8))-\(time.suffix(4))-7abc-8abc-0123456789ab"
    }
}
