import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import TestSupport
import Testing

@testable import AdminAPI

/// A log has the same JSON as a line of an export, on a page and alone, whatever is in its row and its event.
@Suite(.timeLimit(.minutes(30))) struct LogFormTests {
    /// Rows of other writers with odd values, in columns that can hold them, and calls with odd facts.
    private func seed(_ bench: AdminBench) async throws {
        try await bench.makeUser(1)
        try await bench.execute(
            """
            ALTER TABLE api_logs
                ALTER total_cost TYPE numeric, ALTER input_tokens TYPE bigint, ALTER output_tokens TYPE numeric,
                ALTER response_time_ms TYPE bigint, ALTER created_at TYPE timestamp(6), ALTER total_cost DROP NOT NULL,
                ALTER model DROP NOT NULL, ALTER status DROP NOT NULL, ALTER input_tokens DROP NOT NULL,
                ALTER output_tokens DROP NOT NULL, ALTER response_time_ms DROP NOT NULL
            """)
        try await bench.execute(
            """
            INSERT INTO api_logs (id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                  error_message, created_at)
            VALUES
                (1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
                (2, 1, '=cmd()', 9223372036854775807, 1e30, 'NaN', -9223372036854775808, 'error', '', 'infinity'),
                (3, 1, 'say "hi"; +1', -1, -1e30, 'Infinity', 0, 'error', E'a\\\\b\\t\\u0001\\n=1\\r\\n@x',
                 '20000-01-01'),
                (4, 1, 'gemini, pro', 1, 2, '-Infinity', 3, 'success', 'ünïcode 😀 ＝1',
                 '9999-12-31 23:59:59.999999'),
                (5, 1, ' -x', 1, 2.5, -0.5000, 3, 'success', E'\\u2028', '9999-01-01'),
                (6, 1, '-12', 0, 0, 0.000000000001, 0, 'success', 'NULL', '2026-11-20 10:00:00.5'),
                (7, 1, 'm', 0, 0, 99999999.999999999999, 0, 'success', '{}', '2026-11-20 09:00:00.000001'),
                (8, 1, 'm', 0, 0, 100, 0, 'success', 'a', '1970-01-01'),
                (9, 1, 'm', 0, 0, 1e8, 0, 'success', E'\\t', '1969-12-31 23:59:59'),
                (10, 1, 'm', 0, 0, -0.0000000000004, 0, 'success', 'a', '0001-01-01'),
                (11, 1, 'm', 0, 0, 0.10, 0, 'success', 'a', '0001-12-31 BC'),
                (12, 1, 'm', 0, 0, 0, 0, 'success', 'a', '-infinity'),
                (20, 1, '=evil', 2147483647, 7, 1.25, 5, 'error', E'"\\\\', '2026-11-21 10:00:00'),
                (21, 1, 'gpt-4', 1, 1, 'NaN', 5, 'success', NULL, '2026-11-21 09:00:00'),
                (22, 1, 'gpt-4', 1, 1, 3, 5, 'success', NULL, '2026-11-21 08:00:00'),
                (23, 1, 'gpt-4', 1, 1, 3, 5, 'success', NULL, '2026-11-21 07:00:00')
            """)
        try await bench.execute(
            """
            INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                cached_tokens, reasoning_tokens, duration_ms, first_token_ms, billable_digest, quota_tokens,
                quota_requests, is_stream, is_cache_hit, shape, status, plan, model_group, model, provider, call_type,
                error_code, end_user, tags, flags, cost)
            SELECT metering.event_key_floor(l.created_at AT TIME ZONE 'UTC'), l.id, 1,
                   l.created_at AT TIME ZONE 'UTC' + f.after, f.input, l.output_tokens, f.cached, 3, f.duration,
                       f.first,
                   0, 2, 1, f.streamed, NOT f.streamed, 'litellm', l.status, f.plan, l.model, f.model, f.provider,
                       f.model,
                   f.model, f.model, f.tags, f.flags, f.cost
            FROM api_logs l
            JOIN (VALUES
                (20, interval '0.25 s', 9223372036854775807, 9223372036854775807, NULL, 0, true, 'p"ro', '=cmd()',
                 E'a\\n;@b', ARRAY['x', '=cmd()', '', 'NULL', E'q"\\\\', 'a,b', '{c}', ' +d', '😀'],
                 ARRAY['usage_estimated'], NULL),
                (21, interval '0', 1, 0, 7, NULL, false, 'free', NULL, NULL, NULL,
                 ARRAY['implausible_cost'], 0.420000000000),
                (22, interval '0.999999 s', 1, 0, 0, 12, true, '', '', '-1', '{}', NULL, 12),
                (23, interval '0', 2, 0, 0, 12, true, '', '', '', '{}', NULL, 12)
            ) AS f (id, after, input, cached, duration, first, streamed, plan, model, provider, tags, flags, cost)
              ON f.id = l.id
            """)
    }

    /// The last of the events is no longer that of its row, which has other tokens.
    private static let expected = #"""
        {"id":1,"user_id":1,"occurred_at":null,"model":"unknown","provider":null,"deployment":null,\#
        "call_type":null,"status":"success","input_tokens":0,"output_tokens":0,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":null,\#
        "ledger_cost":"0","duration_ms":0,"time_to_first_token_ms":null,"is_stream":null,\#
        "is_cache_hit":null,"error_code":null,"error_message":null,"end_user":null,"tags":[],\#
        "flags":["implausible_cost","implausible_time"],"plan":null,"event_key":null}
        {"id":2,"user_id":1,"occurred_at":null,"model":"=cmd()","provider":null,"deployment":null,\#
        "call_type":null,"status":"error","input_tokens":9223372036854774784,\#
        "output_tokens":9223372036854774784,"cached_tokens":null,"reasoning_tokens":null,"cost":null,\#
        "ledger_cost":"0","duration_ms":-9223372036854774784,"time_to_first_token_ms":null,"is_stream":null,\#
        "is_cache_hit":null,"error_code":null,"error_message":"","end_user":null,"tags":[],\#
        "flags":["implausible_cost","implausible_time"],"plan":null,"event_key":null}
        {"id":3,"user_id":1,"occurred_at":null,"model":"say \"hi\"; +1","provider":null,"deployment":null,\#
        "call_type":null,"status":"error","input_tokens":-1,"output_tokens":-9223372036854774784,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":null,"ledger_cost":"0","duration_ms":0,\#
        "time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":"a\\b\t\u0001\n=1\r\n@x","end_user":null,"tags":[],"flags":["implausible_cost",\#
        "implausible_time"],"plan":null,"event_key":null}
        {"id":4,"user_id":1,"occurred_at":"9999-12-31T23:59:59.999Z","model":"gemini, pro","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":1,"output_tokens":2,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":null,"ledger_cost":"0","duration_ms":3,\#
        "time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":"ünïcode 😀 ＝1","end_user":null,"tags":[],"flags":["implausible_cost",\#
        "implausible_time"],"plan":null,"event_key":null}
        {"id":5,"user_id":1,"occurred_at":"9999-01-01T00:00:00.000Z","model":" -x","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":1,"output_tokens":3,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":"-0.5","ledger_cost":"-0.5","duration_ms":3,\#
        "time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":"\#u{2028}","end_user":null,"tags":[],"flags":["implausible_time"],"plan":null,"event_key":null}
        {"id":20,"user_id":1,"occurred_at":"2026-11-21T10:00:00.250Z","model":"=evil","provider":"a\n;@b",\#
        "deployment":"=cmd()","call_type":"=cmd()","status":"error","input_tokens":9223372036854775807,\#
        "output_tokens":7,"cached_tokens":9223372036854775807,"reasoning_tokens":3,"cost":null,\#
        "ledger_cost":"1.25","duration_ms":null,"time_to_first_token_ms":0,"is_stream":true,\#
        "is_cache_hit":false,"error_code":"=cmd()","error_message":"\"\\","end_user":"=cmd()","tags":["x",\#
        "=cmd()","","NULL","q\"\\","a,b","{c}"," +d","😀"],"flags":["usage_estimated"],"plan":"p\"ro",\#
        "event_key":"01a1fd8c-6900-0000-0000-000000000000"}
        {"id":21,"user_id":1,"occurred_at":"2026-11-21T09:00:00.000Z","model":"gpt-4","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":1,"output_tokens":1,\#
        "cached_tokens":0,"reasoning_tokens":3,"cost":"0.42","ledger_cost":"0","duration_ms":7,\#
        "time_to_first_token_ms":null,"is_stream":false,"is_cache_hit":true,"error_code":null,\#
        "error_message":null,"end_user":null,"tags":[],"flags":["implausible_cost"],"plan":"free",\#
        "event_key":"01a1fd55-7a80-0000-0000-000000000000"}
        {"id":22,"user_id":1,"occurred_at":"2026-11-21T08:00:00.999Z","model":"gpt-4","provider":"-1",\#
        "deployment":"","call_type":"","status":"success","input_tokens":1,"output_tokens":1,"cached_tokens":0,\#
        "reasoning_tokens":3,"cost":"12","ledger_cost":"3","duration_ms":0,"time_to_first_token_ms":12,\#
        "is_stream":true,"is_cache_hit":false,"error_code":"","error_message":null,"end_user":"","tags":[],\#
        "flags":[],"plan":"","event_key":"01a1fd1e-8c00-0000-0000-000000000000"}
        {"id":23,"user_id":1,"occurred_at":"2026-11-21T07:00:00.000Z","model":"gpt-4","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":1,"output_tokens":1,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":"3","ledger_cost":"3","duration_ms":5,\#
        "time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":null,"end_user":null,"tags":[],"flags":[],"plan":null,"event_key":null}
        {"id":6,"user_id":1,"occurred_at":"2026-11-20T10:00:00.500Z","model":"-12","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":0,"output_tokens":0,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":"0.000000000001","ledger_cost":"0.000000000001",\#
        "duration_ms":0,"time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":"NULL","end_user":null,"tags":[],"flags":[],"plan":null,"event_key":null}
        {"id":7,"user_id":1,"occurred_at":"2026-11-20T09:00:00.000Z","model":"m","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":0,"output_tokens":0,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":"99999999.999999999999",\#
        "ledger_cost":"99999999.999999999999","duration_ms":0,"time_to_first_token_ms":null,"is_stream":null,\#
        "is_cache_hit":null,"error_code":null,"error_message":"{}","end_user":null,"tags":[],"flags":[],\#
        "plan":null,"event_key":null}
        {"id":8,"user_id":1,"occurred_at":"1970-01-01T00:00:00.000Z","model":"m","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":0,"output_tokens":0,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":"100","ledger_cost":"100","duration_ms":0,\#
        "time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":"a","end_user":null,"tags":[],"flags":[],"plan":null,"event_key":null}
        {"id":9,"user_id":1,"occurred_at":"1969-12-31T23:59:59.000Z","model":"m","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":0,"output_tokens":0,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":null,"ledger_cost":"0","duration_ms":0,\#
        "time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":"\t","end_user":null,"tags":[],"flags":["implausible_cost","implausible_time"],\#
        "plan":null,"event_key":null}
        {"id":10,"user_id":1,"occurred_at":"0001-01-01T00:00:00.000Z","model":"m","provider":null,\#
        "deployment":null,"call_type":null,"status":"success","input_tokens":0,"output_tokens":0,\#
        "cached_tokens":null,"reasoning_tokens":null,"cost":"0","ledger_cost":"0","duration_ms":0,\#
        "time_to_first_token_ms":null,"is_stream":null,"is_cache_hit":null,"error_code":null,\#
        "error_message":"a","end_user":null,"tags":[],"flags":["implausible_time"],"plan":null,"event_key":null}
        {"id":11,"user_id":1,"occurred_at":null,"model":"m","provider":null,"deployment":null,"call_type":null,\#
        "status":"success","input_tokens":0,"output_tokens":0,"cached_tokens":null,"reasoning_tokens":null,\#
        "cost":"0.1","ledger_cost":"0.1","duration_ms":0,"time_to_first_token_ms":null,"is_stream":null,\#
        "is_cache_hit":null,"error_code":null,"error_message":"a","end_user":null,"tags":[],\#
        "flags":["implausible_time"],"plan":null,"event_key":null}
        {"id":12,"user_id":1,"occurred_at":null,"model":"m","provider":null,"deployment":null,"call_type":null,\#
        "status":"success","input_tokens":0,"output_tokens":0,"cached_tokens":null,"reasoning_tokens":null,\#
        "cost":"0","ledger_cost":"0","duration_ms":0,"time_to_first_token_ms":null,"is_stream":null,\#
        "is_cache_hit":null,"error_code":null,"error_message":"a","end_user":null,"tags":[],\#
        "flags":["implausible_time"],"plan":null,"event_key":null}
        """#

    /// A cell as a table has it.
    private func cell(_ value: JSON) -> String {
        switch value {
        case .null: return ""
        case .number(let literal): return literal
        case .bool(let value): return value ? "true" : "false"
        default:
            var bytes: [UInt8] = []
            CSV.append(
                (value.text ?? (value.elements ?? []).compactMap(\.text).joined(separator: ";")).utf8, to: &bytes)
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    @Test func linesPagesAndSingleCallsAgree() async throws {
        try await AdminBench.with { bench in
            try await seed(bench)
            let token = try await bench.token(of: 1)
            let export = try await bench.send(
                .get, "/api/v1/logs", as: token, headers: [.accept: "application/x-ndjson"])
            var lines = export.body.split(separator: "\n").map(String.init)
            let total = try #require(lines.popLast().flatMap { JSON(parsing: Array($0.utf8))?["total"] })
            #expect(lines.joined(separator: "\n") == Self.expected)
            #expect(total["rows"] == 16 && total["cost"] == "100000115.02" && total["ledger_cost"] == "100000106.85")

            let page = try await bench.get("/api/v1/logs?limit=1000", as: token)
            #expect(page.body == "{\"data\":[\(lines.joined(separator: ","))],\"next_cursor\":null}")
            let entries = page.json?["data"]?.elements ?? []
            try #require(entries.count == 16)
            let document = try #require(try await bench.get("/openapi.json").json)
            let check = SchemaCheck(document: document)
            let schema = try #require(document["components"]?["schemas"]?["Log"])
            for (line, entry) in zip(lines, entries) {
                let id = try #require(entry["id"]?.wholeNumber)
                #expect(try await bench.get("/api/v1/logs/\(id)", as: token).body == line)
                #expect(check.problems(entry, schema) == [])
            }
            for sort in ["cost", "duration"] {
                let other = try await bench.get("/api/v1/logs?limit=1000&sort=\(sort)", as: token)
                let found = other.json?["data"]?.elements ?? []
                #expect(found.count == 16 && Set(found) == Set(entries))
            }
            let table = try await bench.send(.get, "/api/v1/logs", as: token, headers: [.accept: "text/csv"])
            let names = (entries[0].members ?? []).map(\.key).joined(separator: ",")
            let cells = entries.map { ($0.members ?? []).map { cell($0.value) }.joined(separator: ",") }
            let text = ([names] + cells).map { $0 + "\r\n" }.joined()
            #expect(table.body.hasPrefix(text), "\(table.body)")
            let rest = table.body.utf8.dropFirst(text.utf8.count)
            #expect(rest.starts(with: "#rows=16,cost=100000115.02,ledger_cost=100000106.85,".utf8))
        }
    }
}
