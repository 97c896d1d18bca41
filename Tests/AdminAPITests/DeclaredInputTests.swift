import HTTPSupport
import HTTPTypes
import TestSupport
import Testing

@testable import AdminAPI

/// What `/openapi.json` says of input is what is taken, no more and no less.
@Suite(.timeLimit(.minutes(30))) struct DeclaredInputTests {
    private func withAdministrator(_ body: @escaping @Sendable (AdminBench, String) async throws -> Void) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            try await body(bench, try await bench.token(of: 1))
        }
    }

    static let refused: [(HTTPRequest.Method, String, String, [String])] = [
        (.put, "users/1/limits", #"{"daily":{"tokenz":5},"weekly":{}}"#, ["daily.tokenz", "weekly"]),
        (.put, "plans/pro", #"{"monthly":{"tokens":1,"requests":1,"calls":1}}"#, ["monthly.calls"]),
        (.put, "users/1/limits", #"{"daily":{"tokens":1.0000000001}}"#, ["daily.tokens"]),
        (.put, "users/1/limits", #"{"daily":{"requests":2.5e-42}}"#, ["daily.requests"]),
        (.put, "plans/pro", #"{"daily":{"tokens":0.5e-9,"requests":1}}"#, ["daily.tokens"]),
        (.put, "free-models", #"{"model":"","is_free":true}"#, ["model"]),
        (
            .post, "quarantine/discard", #"{"ids":["00000000-0000-0000-0000-000000000001"],"answered_404":"no"}"#,
            ["answered_404"]
        ),
    ]

    @Test(arguments: refused.indices) func undeclaredInputIsRefused(index: Int) async throws {
        let (method, path, body, fields) = Self.refused[index]
        try await withAdministrator { bench, token in
            let answer = try await bench.send(method, "/api/v1/admin/\(path)", body, as: token)
            #expect(answer.status == 422, "\(answer)")
            #expect(answer.json?["errors"]?.members?.map(\.key) == fields, "\(answer)")
        }
    }

    @Test func aWholeNumberMayBeWrittenInAnyWay() async throws {
        try await withAdministrator { bench, token in
            let answer = try await bench.send(
                .put, "/api/v1/admin/users/1/limits", #"{"daily":{"tokens":1.5e3,"requests":7.0}}"#, as: token)
            #expect(answer.json?["limits"]?["daily"]?["tokens"]?["limit"] == 1500, "\(answer)")
            #expect(answer.json?["limits"]?["daily"]?["requests"]?["limit"] == 7)
        }
    }

    @Test func theDocumentSaysWhichBodiesMayBeLeftOutAndWhichAreClosed() async throws {
        try await withAdministrator { bench, token in
            let document = try #require(try await bench.get("/openapi.json").json)
            let (check, paths) = (SchemaCheck(document: document), try #require(document["paths"]))
            let body = { (path: String, method: String) in paths[path]?[method]?["requestBody"] }
            #expect(body("/api/v1/admin/users/{id}", "patch")?["required"] == false)
            #expect(body("/api/v1/admin/users", "post")?["required"] == true)
            #expect(try await bench.send(.patch, "/api/v1/admin/users/1", as: token).status == 200)
            for (path, methods) in (paths.members ?? []).map({ ($0.key, $0.value) }) where path.hasPrefix("/api/v1/") {
                for method in methods.members ?? [] {
                    guard let schema = method.value["requestBody"]?["content"]?["application/json"]?["schema"] else {
                        continue
                    }
                    #expect(check.resolved(schema)["additionalProperties"] == false, "\(method.key) \(path)")
                }
            }
        }
    }
}
