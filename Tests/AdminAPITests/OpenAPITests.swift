import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// `/openapi.json` describes every route, and every answer is as it is described.
@Suite(.timeLimit(.minutes(30))) struct OpenAPITests {
    private static let quarantined = UsageEvent.sample(2, by: .user(99), at: AdminBench.start)
    private static let ids = #"{"ids":["\#(quarantined.key)"]}"#

    /// What follows the path of an operation, where it needs parameters.
    private static let queries = [
        "verifyRollups": "?from=2026-11-01&to=2026-12-01", "getSummary": "?compare=previous",
        "getTimeseries": "?group_by=model", "getBreakdown": "?limit=1",
    ]

    /// The body of an operation that takes one.
    private static let bodies = [
        "register":
            #"{"name":"New","email":"new@example.com","password":"password1","password_confirmation":"password1"}"#,
        "logIn": #"{"email":"user2@example.com","password":"password1"}"#,
        "requestIncrease": #"{"period":"daily","reason":"more"}"#, "favorModel": #"{"model_id":1}"#,
        "updateSettings": #"{"name":"Grace"}"#,
        "reportUsage":
            #"{"user_id":2,"model":"m","input_tokens":1,"output_tokens":1,"total_cost":0.5,"#
            + #""response_time_ms":1,"status":"success"}"#,
        "createUser": #"{"name":"Grace","email":"grace@example.com"}"#, "updateUser": #"{"plan":"pro"}"#,
        "setUserLimits": #"{"daily":{"tokens":7,"requests":3,"budget":"1.50"},"models":["gpt-4"]}"#,
        "setPlanLimits": #"{"daily":{"tokens":9,"requests":8}}"#,
        "answerLimitRequest": #"{"granted":true,"note":"ok"}"#,
        "createModel": #"{"name":"GPT-4","model_id":"gpt-4","cost_per_1k_tokens":"0.03"}"#,
        "updateModel": #"{"name":"GPT-4","model_id":"gpt-4o","cost_per_1k_tokens":"0.03","description":"best"}"#,
        "setFreeModel": #"{"model":"local/x","is_free":true}"#, "replayQuarantined": ids, "discardQuarantined": ids,
    ]

    /// A database in which every list has a row, and the token of an administrator.
    private func withFullDatabase(_ body: @escaping @Sendable (AdminBench, String) async throws -> Void) async throws {
        try await AdminBench.with(["ADMIN_REGISTRATION": "open"]) { bench in
            for id in [Int64(1), 2] { try await bench.makeUser(id, isAdmin: true) }
            try await bench.seedLogs(of: 2, count: 30)
            try await bench.execute(
                "INSERT INTO models (name, model_id, cost_per_1k_tokens) VALUES ('M', 'm', 1)")
            try await bench.execute(
                """
                INSERT INTO metering.limit_requests (user_id, period, reason, requested_at)
                VALUES (2, 'daily', 'more', now())
                """)
            let now = bench.clock.now
            let writer = EventWriter(pool: bench.database.pool(as: .webhook), now: { now })
            _ = try await writer.write(
                [IngestItem(.success(.sample(1, by: .user(2), at: now))), IngestItem(.success(Self.quarantined))],
                lockedUsers: .quarantine)
            try await bench.database.pool(as: .webhook).withConnection { connection in
                for first in [Int64(1), 31] {
                    let part = try #require(
                        SpoolPart(spool: "00000001-0000-4000-8000-000000000000", first: first, count: 10, lost: 2))
                    _ = try Spools.record(part, connection, now: now)
                }
            }
            try await body(bench, try await bench.token(of: 2))
        }
    }

    private func path(_ route: Route, _ bench: AdminBench) async throws -> String {
        let table = route.operation.id == "getLog" ? "api_logs" : "metering.limit_requests"
        let id =
            switch route.operation.id {
            case "getLog", "answerLimitRequest": try await bench.number("SELECT min(id) FROM \(unsafeSQL: table)")
            default: 1
            }
        return route.path.replacing("{id}", with: "\(id)").replacing("{plan}", with: "pro")
            .replacing("{key}", with: "\(Self.quarantined.key)") + (Self.queries[route.operation.id] ?? "")
    }

    @Test func everyAnswerIsAsDescribed() async throws {
        try await withFullDatabase { bench, token in
            let document = try #require(try await bench.get("/openapi.json").json)
            let check = SchemaCheck(document: document)
            // Replay before discard, and log out last.
            for route in bench.routes where route.operation.id != "logOut" {
                let id = route.operation.id
                let answer = try await bench.send(
                    route.method, try await path(route, bench), Self.bodies[id], as: token)
                #expect(answer.status == route.operation.status.code, "\(id): \(answer)")
                let operation = document["paths"]?[route.path]?[route.method.rawValue.lowercased()]
                #expect(operation?["operationId"]?.text == id)
                let type = answer.headers[.contentType]?.split(separator: ";").first.map(String.init) ?? ""
                let content = operation?["responses"]?["\(answer.status)"]?["content"]
                let schema = try #require(content?[type]?["schema"], "\(id): \(answer)")
                guard type == "application/json" else { continue }
                let value = try #require(answer.json)
                #expect(check.problems(value, schema) == [], "\(id)")
                if route.path.hasPrefix("/api/v1/") { #expect(check.open(schema) == [], "\(id)") }
                for list in ["data", "series", "results", "limit_requests", "recent_logs"] {
                    if let rows = value[list]?.elements, id != "getBreakdown" || list == "data" {
                        #expect(!rows.isEmpty || id == "getUser", "\(id) has no \(list)")
                    }
                }
            }
            #expect(try await bench.send(.post, "/api/auth/logout", as: token).status == 200)
        }
    }

    @Test func errorsAreProblems() async throws {
        try await withFullDatabase { bench, token in
            let document = try #require(try await bench.get("/openapi.json").json)
            let problem = try #require(document["components"]?["schemas"]?["Problem"])
            let requests: [(HTTPRequest.Method, String, String?, Int)] = [
                (.get, "/api/v1/logs/0", nil, 422), (.get, "/api/v1/logs/999999", nil, 404),
                (.get, "/api/v1/logs?limit=x&sort=y", nil, 422), (.get, "/api/v1/none", nil, 404),
                (.post, "/api/v1/logs", nil, 405), (.post, "/api/v1/admin/users", "[]", 400),
            ]
            for (method, path, body, status) in requests {
                let answer = try await bench.send(method, path, body, as: token)
                #expect(
                    answer.status == status && answer.headers[.contentType] == "application/problem+json", "\(answer)")
                let value = try #require(answer.json)
                #expect(SchemaCheck(document: document).problems(value, problem) == [], "\(answer)")
            }
        }
    }

    @Test func everyOperationHasAnIDATagAndExamplesThatFit() async throws {
        try await AdminBench.with { bench in
            let document = try #require(try await bench.get("/openapi.json").json)
            let check = SchemaCheck(document: document)
            let operations = (document["paths"]?.members ?? []).flatMap { $0.value.members ?? [] }.map(\.value)
            let ids = operations.compactMap { $0["operationId"]?.text }
            #expect(ids.count == operations.count && Set(ids).count == ids.count)
            #expect(ids.allSatisfy { $0.wholeMatch(of: /[a-z][A-Za-z]+/) != nil }, "\(ids)")
            let tags = Set((document["tags"]?.elements ?? []).compactMap { $0["name"]?.text })
            #expect(Set(operations.flatMap { $0["tags"]?.elements ?? [] }.compactMap(\.text)) == tags)
            for (id, operation) in zip(ids, operations) {
                for parameter in operation["parameters"]?.elements ?? [] where parameter["in"] != "header" {
                    let (example, schema) = (try #require(parameter["example"]), try #require(parameter["schema"]))
                    #expect(check.problems(example, schema) == [], "\(id) \(parameter["name"] ?? .null)")
                }
                let responses = (operation["responses"]?.members ?? []).map(\.value)
                for content in ([operation["requestBody"]].compactMap(\.self) + responses).compactMap({ $0["content"] })
                {
                    guard let media = content["application/json"], let example = media["example"] else { continue }
                    #expect(check.problems(example, try #require(media["schema"])) == [], "\(id): \(example)")
                }
            }
        }
    }

    @Test func everyNamedSchemaIsUsedAndEveryReferenceIsNamed() async throws {
        try await AdminBench.with { bench in
            let answer = try await bench.get("/openapi.json")
            let schemas = try #require(answer.json?["components"]?["schemas"]?.members)
            let names = schemas.map(\.key)
            #expect(Set(names).count == names.count)
            let expected = [
                "Log", "User", "Plan", "Model", "UsageSummary", "UsageBreakdown", "LimitRequest", "Problem",
            ]
            #expect(Set(expected).isSubset(of: names), "\(names)")
            let references = answer.body.matches(of: /"\$ref":"#\/components\/schemas\/([^"]+)"/).map { String($0.1) }
            #expect(Set(references) == Set(names))
        }
    }
}

extension SchemaCheck {
    /// The paths of objects in `schema` that may have members which it does not describe.
    func open(_ schema: JSON, at path: String = "$") -> [String] {
        let schema = resolved(schema)
        var found: [String] = []
        if let properties = schema["properties"]?.members {
            if schema["additionalProperties"] != false { found.append(path) }
            found += properties.flatMap { open($0.value, at: "\(path).\($0.key)") }
        }
        if let items = schema["items"] { found += open(items, at: "\(path)[]") }
        for choice in schema["anyOf"]?.elements ?? [] { found += open(choice, at: path) }
        if let value = schema["additionalProperties"], value.members != nil { found += open(value, at: "\(path).*") }
        return found
    }
}
