import Domain
import HTTPSupport
import HTTPTypes
import Passwords
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// Every route is closed to unauthenticated requests, and shows users only their own data.
@Suite(.timeLimit(.minutes(30))) struct RouteWalkTests {
    private static let secret = "secretsecret"

    /// Bodies that make each route answer, without data of the other user.
    private static let bodies: [String: String] = [
        "/api/auth/register":
            #"{"name":"New","email":"new@example.com","password":"password1","password_confirmation":"password1"}"#,
        "/api/auth/login": #"{"email":"user2@example.com","password":"password1"}"#,
        "/api/rate-limits/request-increase": #"{"period":"daily","reason":"more"}"#,
        "/api/models/favorite": #"{"model_id":1}"#, "/api/settings/update": #"{"name":"Grace"}"#,
        "/api/usage/log":
            #"{"user_id":2,"model":"m","input_tokens":1,"output_tokens":1,"total_cost":0.5,"#
            + #""response_time_ms":1,"status":"success"}"#,
    ]

    /// Two users; whatever belongs to the first has a mark in it.
    private func withTwoUsers(_ body: @escaping @Sendable (AdminBench, String, String) async throws -> Void)
        async throws
    {
        try await AdminBench.with(["ADMIN_REGISTRATION": "open"]) { bench in
            try await bench.makeUser(1, name: Self.secret, email: "\(Self.secret)@example.com")
            try await bench.makeUser(2)
            try await bench.execute("UPDATE users SET api_key = \(Self.secret) WHERE id = 1")
            try await bench.execute(
                "INSERT INTO models (id, name, model_id, cost_per_1k_tokens) VALUES (1, 'M', 'm', 1)")
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                      error_message, created_at)
                SELECT u, CASE u WHEN 1 THEN \(Self.secret) ELSE 'm' END, 777, 777, 7, 7, 'error',
                       CASE u WHEN 1 THEN \(Self.secret) END, '2026-11-23 07:00:00'
                FROM generate_series(1, 2) u, generate_series(1, 5)
                """)
            try await bench.execute(
                """
                INSERT INTO metering.limit_requests (user_id, period, reason, requested_at)
                VALUES (1, 'daily', \(Self.secret), now())
                """)
            try await body(bench, try await bench.token(of: 1), try await bench.token(of: 2))
        }
    }

    private func path(_ route: Route, id: Int) -> String { route.path.replacing("{id}", with: "\(id)") }

    @Test func unauthenticatedRequestsReadNothing() async throws {
        try await withTwoUsers { bench, _, _ in
            for route in bench.routes where route.access != .anyone {
                let answer = try await bench.send(route.method, path(route, id: 1), Self.bodies[route.path])
                #expect(answer.status == 401, "\(route.path)")
                #expect(
                    answer.headers[.contentType]
                        == (route.isLaravel ? "application/json" : "application/problem+json"))
            }
        }
    }

    @Test func aUserReadsNothingOfAnother() async throws {
        try await withTwoUsers { bench, _, token in
            let theirs = try await bench.number("SELECT min(id) FROM api_logs WHERE user_id = 1")
            let named = [
                "", "?user_id=1", "?user_id=1&model=\(Self.secret)", "?search=\(Self.secret)", "?per_page=5&page=2",
            ]
            for route in bench.routes
            where route.path != "/api/auth/logout" && !route.path.hasSuffix("/register") {
                for query in named {
                    for accept in ["application/json", "text/csv", "application/x-ndjson"] {
                        let body = Self.bodies[route.path]?.replacing("\"user_id\":2", with: "\"user_id\":1")
                        let answer = try await bench.send(
                            route.method, path(route, id: theirs) + query, body, as: token,
                            headers: [.accept: accept])
                        #expect(!answer.body.contains(Self.secret), "\(route.path)\(query)")
                        #expect(answer.status < 500, "\(route.path)\(query): \(answer)")
                    }
                }
            }
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = 1") == 5)
            #expect(try await bench.text("SELECT name FROM users WHERE id = 1") == Self.secret)
            #expect(try await bench.get("/api/v1/logs/\(theirs)", as: token).status == 404)
            #expect(try await bench.get("/api/v1/logs?user_id=1", as: token).status == 403)
        }
    }

    @Test func administratorsReadAllUsers() async throws {
        try await withTwoUsers { bench, _, _ in
            try await bench.makeUser(3, isAdmin: true)
            let token = try await bench.token(of: 3)
            let users: (String) async throws -> [JSON] = { query in
                let answer = try await bench.get("/api/v1/logs\(query)", as: token)
                return (answer.json?["data"]?.elements ?? []).compactMap { $0["user_id"] }
            }
            #expect(Set(try await users("")) == [1, 2])
            #expect(Set(try await users("?user_id=1")) == [1])
            let summary = try await bench.get("/api/v1/analytics/summary", as: token)
            #expect(summary.json?["current"]?["requests"] == 10, "\(summary)")
            #expect(try await bench.get("/api/v1/logs?from=2026-11-01", as: token).status == 200)
        }
    }
}
