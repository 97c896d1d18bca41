import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// A pass, and a reader's tail, cost what is new and not what is there.
@Suite struct UsageScanTests {
    @Test func aPassAndATailReadNoTableWhole() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            try await ledger.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, created_at)
                SELECT \(user), 'gpt-4', 1, 1, 0, g, '2026-10-01'::timestamp + g * interval '2 minutes'
                FROM generate_series(1, 20000) g
                """)
            try await ledger.execute(
                """
                INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                    cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream, is_cache_hit,
                    shape, status, plan, model_group)
                SELECT metering.event_key_floor('2026-11-01'::timestamptz + g * interval '1 second'), g, \(user),
                    '2026-11-01', 1, 1, 0, 0, 0, 2, 1, false, false, 'litellm', 'success', 'pro', 'gpt-4'
                FROM generate_series(1, 10000) g
                """)
            try await ledger.fold()
            try await ledger.execute("ANALYZE")
            let scans = try await ledger.sequentialScans {
                for round in 0..<4 {
                    _ = try await ledger.write(
                        (0..<20).map { .sample(UInt64(1_000_000 + round * 20 + $0), by: .user(user), at: Ledger.noon) })
                    try await ledger.writeAsLaravel(user)
                    let cursor = try await ledger.worker.withConnection { try UsageCursor.read($0) }
                    let tail = try await ledger.number(
                        """
                        SELECT (SELECT count(*) FROM metering.event_facts(\(cursor.events), 9223372036854775807)
                                WHERE user_id = \(user))
                               + (SELECT count(*) FROM metering.log_facts(\(cursor.others), 9223372036854775807)
                                  WHERE user_id = \(user))
                        """)
                    #expect(tail == 21)
                    try await ledger.fold()
                    ledger.clock.advance(by: .seconds(3600))
                }
            }
            #expect(scans == [:])
        }
    }
}
