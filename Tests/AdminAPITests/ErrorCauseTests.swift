import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The `cause` of a problem, by which a program knows an error whatever its words are.
@Suite(.timeLimit(.minutes(30))) struct ErrorCauseTests {
    private static let causes: [(method: String, path: String, body: String?, cause: AppError.Cause)] = [
        ("POST", "/api/v1/admin/users", #"{"name":"Ada","email":"user2@example.com"}"#, .emailTaken),
        ("PATCH", "/api/v1/admin/users/1", #"{"email":"user2@example.com"}"#, .emailTaken),
        ("PUT", "/api/v1/admin/users/1/key", #"{"api_key":"cf_0123456789012345678901234567890123456789"}"#, .keyTaken),
        ("POST", "/api/v1/admin/users/1/suspend", nil, .lastAdministrator),
        ("POST", "/api/v1/admin/limit-requests/1/answer", #"{"granted":true}"#, .answeredBefore),
        ("GET", "/api/v1/logs?from=2026-11-02&to=2026-11-01", nil, .rangeReversed),
        ("GET", "/api/v1/logs?sort=cost", nil, .rangeRequired),
        ("GET", "/api/v1/logs?cursor=none", nil, .invalidCursor),
    ]

    @Test func aProblemNamesItsCauseBesideItsCode() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            try await bench.makeUser(2)
            try await bench.execute(
                "UPDATE users SET api_key = 'cf_0123456789012345678901234567890123456789' WHERE id = 2")
            try await bench.execute(
                """
                INSERT INTO metering.limit_requests (user_id, period, requested_at, answer, answered_by, answered_at)
                VALUES (2, 'daily', now(), 'refused', 1, now())
                """)
            let token = try await bench.token(of: 1)
            for (method, path, body, cause) in Self.causes {
                let answer = try await bench.send(.init(method) ?? .get, path, body, as: token)
                let code = answer.status == 409 ? "conflict" : "invalid"
                #expect(answer.json?["cause"] == .string(cause.rawValue), "\(path): \(answer)")
                #expect(answer.json?["code"] == .string(code), "\(path): \(answer)")
            }
            let plain = try await bench.get("/api/v1/admin/users/999", as: token)
            #expect(plain.status == 404 && plain.json?["cause"] == nil)
        }
    }

    @Test func laravelsErrorsStayAsTheyAre() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, status: "suspended")
            for password in ["password1", "wrong"] {
                let answer = try await bench.send(
                    .post, "/api/auth/login", #"{"email":"user1@example.com","password":"\#(password)"}"#)
                #expect(answer.status == 422 && answer.json?.members?.map(\.key) == ["message", "errors"], "\(answer)")
            }
        }
    }

    @Test func everyCauseIsInTheDocumentAndOnThePage() async throws {
        let page = try String(contentsOf: Checkout.root.appending(path: "docs/api.md"), encoding: .utf8)
        for cause in AppError.Cause.allCases { #expect(page.contains("| `\(cause.rawValue)` |"), "\(cause)") }
        try await AdminBench.with { bench in
            let document = try await bench.get("/openapi.json").json
            let cause = document?["components"]?["schemas"]?["Problem"]?["properties"]?["cause"]
            #expect(cause?["enum"]?.elements?.compactMap(\.text) == AppError.Cause.allCases.map(\.rawValue))
        }
    }

    @Test func aRefusedLimitOrPriceNamesItsField() async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            let token = try await bench.token(of: 1)
            let plan = try await bench.send(
                .put, "/api/v1/admin/plans/pro", #"{"daily":{"tokens":-1,"requests":1},"monthly":{"tokens":1}}"#,
                as: token)
            #expect(plan.json?["errors"]?.members?.map(\.key) == ["daily.tokens", "monthly.requests"], "\(plan)")
            let model = try await bench.send(
                .post, "/api/v1/admin/models", #"{"name":"a","model_id":"a","cost_per_1k_tokens":"10000"}"#, as: token)
            #expect(model.status == 422 && model.json?["errors"]?["cost_per_1k_tokens"] != nil, "\(model)")
        }
    }
}
