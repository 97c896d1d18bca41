import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// `POST /api/usage/log`: users report only their own calls. Each counts once, like an event of the webhook.
@Suite(.timeLimit(.minutes(30))) struct UsageLogTests {
    private func call(_ user: Int, cost: String = "0.123456789012") -> String {
        """
        {"user_id":\(user),"model":"gpt-4","input_tokens":10,"output_tokens":5,"total_cost":\(cost),\
        "response_time_ms":120,"status":"error","error_message":"key sk-abcdefghijklmnop1234567890abcdef failed"}
        """
    }

    @Test func aReportedCallIsALogWithFactsAndCounts() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let token = try await bench.token(of: 1)
            let answer = try await bench.send(.post, "/api/usage/log", call(1), as: token)
            #expect(answer.status == 201, "\(answer)")
            #expect(answer.json?["total_cost"] == "0.123457")
            #expect(!answer.body.contains("sk-abc"))
            let facts = try await bench.text(
                """
                SELECT concat_ws('|', e.cost, e.input_tokens, e.status, l.total_cost, l.created_at)
                FROM metering.events e JOIN api_logs l ON l.id = e.api_log_id
                """)
            #expect(facts == "0.123456789012|10|error|0.123457|2026-11-23 08:04:09")
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE error_message LIKE '%sk-abc%'") == 0)
            let limits = try await bench.get("/api/rate-limits", as: token)
            #expect(limits.json?["daily"]?["used"] == 15)
            #expect(limits.json?["daily"]?["used_requests"] == 1)
            // The count is the same before and after a rollup pass.
            _ = try await bench.database.pool(as: .webhook).withConnection {
                try QuotaCounters.addDeltas($0, now: .now)
            }
            #expect(try await bench.get("/api/rate-limits", as: token).body == limits.body)
            #expect(try await bench.get("/api/dashboard/stats", as: token).json?["today"]?["api_calls"] == 1)
        }
    }

    @Test func anIdempotentCallCountsOnceAndItsKeyIsItsUsersOwn() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2)
            let tokens = [try await bench.token(of: 1), try await bench.token(of: 2)]
            let name: HTTPFields = [.idempotencyKey: "call-1"]
            let first = try await bench.send(.post, "/api/usage/log", call(1), as: tokens[0], headers: name)
            let again = try await bench.send(.post, "/api/usage/log", call(1), as: tokens[0], headers: name)
            #expect([first.status, again.status] == [201, 200])
            #expect(again.json?["id"] == first.json?["id"])
            #expect(again.json?["duplicate"] == true)
            let other = try await bench.send(.post, "/api/usage/log", call(1, cost: "1"), as: tokens[0], headers: name)
            #expect(other.status == 409)
            let second = try await bench.send(.post, "/api/usage/log", call(2), as: tokens[1], headers: name)
            #expect(second.status == 201)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 2)
        }
    }

    @Test func aCallWhoseRowATriggerRemovesIsQuarantined() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let token = try await bench.token(of: 1)
            try await bench.database.pool.withConnection {
                try $0.executeScript(
                    """
                    CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                    CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
                    """)
            }
            let answer = try await bench.send(.post, "/api/usage/log", call(1), as: token)
            #expect(answer.status == 202, "\(answer)")
            #expect(answer.json?["reason"] == "laravel_unavailable")
            #expect(try await bench.get("/api/rate-limits", as: token).json?["daily"]?["used_requests"] == 0)
            #expect(try await bench.number("SELECT count(*) FROM metering.events") == 0)
        }
    }

    @Test func onlyAdministratorsWriteForOthers() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2, isAdmin: true)
            let refused = try await bench.send(.post, "/api/usage/log", call(2), as: try await bench.token(of: 1))
            #expect(refused.description == #"403 {"message":"You may only log your own usage."}"#)
            let admin = try await bench.token(of: 2)
            #expect(try await bench.send(.post, "/api/usage/log", call(1), as: admin).status == 201)
            let unknown = try await bench.send(.post, "/api/usage/log", call(99), as: admin)
            #expect(unknown.json?["errors"]?["user_id"] == ["The selected user id is invalid."])
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 1)
        }
    }

    /// As Laravel's `exists:users,id` does, in the order of the fields.
    @Test func anInvalidUserIsReportedBesideTheOtherErrors() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2, isAdmin: true)
            let (user, admin) = (try await bench.token(of: 1), try await bench.token(of: 2))
            let body = { (id: String, cost: String) in
                #"{"user_id":\#(id),"model":"m","input_tokens":-1,"output_tokens":0,"total_cost":\#(cost),"#
                    + #""response_time_ms":1,"status":"success"}"#
            }
            for (token, id) in [(admin, "99"), (admin, #""abc""#), (user, #""abc""#), (user, "[1]")] {
                let answer = try await bench.send(.post, "/api/usage/log", body(id, "1e9"), as: token)
                #expect(answer.status == 422)
                #expect(answer.json?["message"] == "The selected user id is invalid. (and 2 more errors)", "\(answer)")
                #expect(answer.json?["errors"]?.members?.map(\.key) == ["user_id", "input_tokens", "total_cost"])
                #expect(answer.json?["errors"]?["user_id"] == ["The selected user id is invalid."])
            }
            let missing = try await bench.send(.post, "/api/usage/log", #"{"model":7}"#, as: user)
            #expect(missing.json?["message"] == "The user id field is required. (and 6 more errors)", "\(missing)")
            // Only an administrator may learn which ids are users.
            let others = try await bench.send(.post, "/api/usage/log", body("99", "1"), as: user)
            let known = try await bench.send(.post, "/api/usage/log", body("2", "1"), as: user)
            #expect(others.description == known.description && known.status == 422, "\(known)")
            #expect(known.json?["errors"]?.members?.map(\.key) == ["input_tokens"])
        }
    }

    @Test func aLimitRequestWithoutAReasonIsLaravels422() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let token = try await bench.token(of: 1)
            let path = "/api/rate-limits/request-increase"
            let required = #""reason":["The reason field is required."]"#
            for body in ["{}", #"{"reason":"  "}"#, #"{"period":null,"reason":null}"#, "not json"] {
                let answer = try await bench.send(.post, path, body, as: token)
                #expect(
                    answer.description
                        == #"422 {"message":"The period field is required. (and 1 more error)","#
                        + #""errors":{"period":["The period field is required."],\#(required)}}"#)
            }
            let alone = try await bench.send(.post, path, #"{"period":"daily"}"#, as: token)
            #expect(
                alone.description
                    == #"422 {"message":"The reason field is required.","errors":{\#(required)}}"#)
            let list = try await bench.send(.post, path, #"{"period":"daily","reason":["x"]}"#, as: token)
            #expect(list.json?["errors"]?["reason"] == ["The reason field must be a string."], "\(list)")
            #expect(try await bench.number("SELECT count(*) FROM metering.limit_requests") == 0)
        }
    }

    @Test func itIsOffUnlessTheOperatorSwitchesItOn() async throws {
        try await AdminBench.with(["ADMIN_USAGE_LOG": ""]) { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2, isAdmin: true)
            for user in [1, 2] as [Int64] {
                let answer = try await bench.send(
                    .post, "/api/usage/log", call(1), as: try await bench.token(of: user))
                #expect(
                    answer.description
                        == #"403 {"message":"Reporting usage is off here. "#
                        + #"The operator switches it on with ADMIN_USAGE_LOG=on."}"#)
            }
            #expect(try await bench.send(.post, "/api/usage/log", call(1)).status == 401)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 0)
        }
    }

    /// Reports of 9.2 × 10¹⁸ tokens and 10⁸ USD.
    @Test func aReportIsBoundedByWhatIsLeftOfThePlan() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let token = try await bench.token(of: 1)
            let send = { (input: String, output: String, cost: String, name: String) in
                try await bench.send(
                    .post, "/api/usage/log",
                    """
                    {"user_id":1,"model":"gpt-4","input_tokens":\(input),"output_tokens":\(output),\
                    "total_cost":\(cost),"response_time_ms":120,"status":"success"}
                    """, as: token, headers: [.idempotencyKey: name])
            }
            for (input, output, cost, fields) in [
                ("9200000000000000000", "0", "1", ["input_tokens"]),
                ("1", "100000", "1", ["input_tokens", "output_tokens"]),
                ("9223372036854775807", "9223372036854775807", "1", ["input_tokens", "output_tokens"]),
                ("1", "100001", "99999999", ["output_tokens", "total_cost"]), ("1", "1", "10000", ["total_cost"]),
            ] {
                let answer = try await send(input, output, cost, "\(input) \(output) \(cost)")
                #expect(answer.status == 422, "\(answer)")
                #expect(answer.json?["errors"]?.members?.map(\.key) == fields, "\(answer)")
            }
            #expect(try await send("60000", "40000", "9999.999999", "all").status == 201)
            // A report that is sent again adds nothing, so it is accepted with nothing left.
            #expect(try await send("60000", "40000", "9999.999999", "all").json?["duplicate"] == true)
            #expect(try await send("1", "0", "0", "more").json?["errors"]?["input_tokens"] != nil)
            try await bench.execute(
                """
                INSERT INTO metering.user_limits
                VALUES (1, 'monthly', 1000000, 2, 10000.5), (1, 'daily', 1000000, 9, NULL)
                """)
            #expect(try await send("1", "0", "0.500002", "dear").json?["errors"]?["total_cost"] != nil)
            #expect(try await send("1", "0", "0.5", "last").status == 201)
            #expect(try await send("1", "0", "0", "none").json?["errors"]?["user_id"] != nil)
            #expect(try await bench.number("SELECT count(*) FROM api_logs") == 2)
        }
    }

    /// A self-reported call counts for its user, and never in the totals of all users.
    @Test func aSelfReportedCallIsNotInTheTotalsOfAllUsers() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.makeUser(2, isAdmin: true)
            let (user, admin) = (try await bench.token(of: 1), try await bench.token(of: 2))
            for token in [user, admin] {
                #expect(try await bench.send(.post, "/api/usage/log", call(1), as: token).status == 201)
            }
            let logs = try await bench.get("/api/v1/logs", as: user)
            #expect(logs.json?["data"]?.elements?.map { $0["flags"] } == [["self_reported"], ["self_reported"]])
            let clock = bench.clock
            for isRolledUp in [false, true] {
                if isRolledUp {
                    _ = try await RollupPass(pool: bench.database.pool(as: .worker), now: { clock.now }).run()
                }
                for (path, part) in [
                    ("admin/totals", "month"), ("analytics/summary", "current"), ("analytics/breakdown", "total"),
                    ("analytics/breakdown?group_by=user", "total"),
                    ("analytics/breakdown?group_by=error_code", "total"),
                ] {
                    let all = try await bench.get("/api/v1/\(path)", as: admin)
                    #expect(all.json?[part]?["requests"] == 0, "\(path): \(all)")
                    guard part != "month" else { continue }
                    let mark = path.contains("?") ? "&" : "?"
                    let theirs = try await bench.get("/api/v1/\(path)\(mark)user_id=1", as: admin)
                    #expect(theirs.json?[part]?["requests"] == 2, "\(path): \(theirs)")
                    let own = try await bench.get("/api/v1/\(path)", as: user)
                    if !path.contains("=user") { #expect(own.json?[part]?["requests"] == 2, "\(path): \(own)") }
                }
                #expect(try await bench.get("/api/dashboard/stats", as: user).json?["today"]?["api_calls"] == 2)
                #expect(try await bench.get("/api/rate-limits", as: user).json?["daily"]?["used_requests"] == 2)
            }
        }
    }

    @Test func limitRequestsAndFavoritesAreKeptAndListed() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.execute(
                "INSERT INTO models (id, name, model_id, cost_per_1k_tokens) VALUES (1, 'M', 'x/m', 1)")
            let token = try await bench.token(of: 1)
            for reason in ["one", "two"] {
                _ = try await bench.send(
                    .post, "/api/rate-limits/request-increase", "{\"period\":\"daily\",\"reason\":\"\(reason)\"}",
                    as: token)
                _ = try await bench.send(.post, "/api/models/favorite", #"{"model_id":1}"#, as: token)
            }
            let me = try await bench.get("/api/v1/me", as: token).json
            #expect(me?["favorite_models"] == ["x/m"])
            #expect(me?["limit_requests"]?.elements?.map { $0["reason"] } == ["two"])
        }
    }

    @Test func theEndOfALimitIsForecast() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            try await bench.execute(
                """
                INSERT INTO metering.quota_usage (user_id, period, window_start, tokens, requests)
                VALUES (1, 'daily', '2026-11-23', 50000, 1), (1, 'monthly', '2026-11-01', 2000000, 0)
                """)
            let me = try await bench.get("/api/v1/me", as: try await bench.token(of: 1)).json
            // 50,000 of 100,000 tokens are used after 8 h 4 min 9 s. All are used after twice that time.
            #expect(me?["limits"]?["daily"]?["tokens"]?["exhausted_at"] == "2026-11-23T16:08:18.000Z")
            #expect(me?["limits"]?["daily"]?["tokens"]?["percent"] == 50)
            #expect(me?["limits"]?["daily"]?["requests"]?["exhausted_at"] == JSON.null)
            #expect(me?["limits"]?["monthly"]?["tokens"]?["exhausted_at"] == "2026-11-23T08:04:09.000Z")
            #expect(me?["limits"]?["monthly"]?["tokens"]?["remaining"] == 0)
        }
    }
}
