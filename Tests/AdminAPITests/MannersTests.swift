import HTTPSupport
import HTTPTypes
import Postgres
import TestSupport
import Testing

@testable import AdminAPI

/// What all answers have in common: shapes of errors, methods, ETags, compression, headers, limits.
@Suite(.timeLimit(.minutes(30))) struct MannersTests {
    private func withUser(
        _ environment: [String: String] = [:], _ body: @escaping @Sendable (AdminBench, String) async throws -> Void
    ) async throws {
        try await AdminBench.with(environment) { bench in
            try await bench.makeUser(1)
            try await body(bench, try await bench.token(of: 1))
        }
    }

    @Test func problemsBelowV1AndLaravelsShapeElsewhere() async throws {
        try await withUser { bench, token in
            let problem = try await bench.get("/api/v1/logs?limit=0&sort=size&limti=1", as: token)
            #expect(problem.status == 422)
            #expect(problem.headers[.contentType] == "application/problem+json")
            #expect(problem.json?["code"] == "invalid_input")
            #expect(problem.json?["errors"]?.members?.map(\.key) == ["sort", "limit", "limti"])
            let laravels = try await bench.get("/api/usage/logs?per_page=0", as: token)
            #expect(laravels.json?.members?.map(\.key) == ["message", "errors"])
            #expect(try await bench.get("/api/v1/nothing").json?["code"] == "not_found")
            #expect(try await bench.get("/api/nothing").json?.members?.map(\.key) == ["message"])
            for path in ["/api", "/api/"] {
                let root = try await bench.get(path)
                #expect(root.description == #"404 {"message":"The route api could not be found."}"#)
                #expect(root.headers[.contentType] == "application/json")
                #expect(root.headers[.cacheControl] == "no-cache, private")
                #expect(try await bench.send(.post, path, "{}").description == root.description)
            }
            let missing = try await bench.get("/api/nothing/at%20all/?x=1")
            #expect(missing.description == #"404 {"message":"The route api/nothing/at%20all could not be found."}"#)
            for path in ["/api/v1", "/api/v1/", "/apis"] {
                #expect(try await bench.get(path).json?["code"] == "not_found", "\(path)")
            }
            let root = try await bench.get("/")
            #expect(root.status == 303 && root.headers[.location] == "/dashboard")
        }
    }

    @Test func aWrongMethodIsAnsweredWithTheAllowedOnes() async throws {
        try await withUser { bench, token in
            let wrong = try await bench.send(.delete, "/api/v1/logs", as: token)
            #expect(wrong.status == 405)
            #expect(wrong.headers[.allow] == "GET, HEAD")
            #expect(try await bench.send(.query, "/api/v1/logs", as: token).status == 405)
            let laravels = try await bench.send(.delete, "/api/usage/logs/", as: token)
            let sentence =
                "The DELETE method is not supported for route api/usage/logs. Supported methods: GET, HEAD."
            #expect(laravels.description == #"405 {"message":"\#(sentence)"}"#)
            #expect(try await bench.send(.options, "/api/usage/export").headers[.allow] == "GET, HEAD, POST")
            let head = try await bench.send(.head, "/api/v1/me", as: token)
            #expect(head.status == 200 && head.body.isEmpty)
        }
    }

    @Test func aCurrentETagIsAnsweredWithNotModified() async throws {
        try await withUser { bench, token in
            let first = try await bench.get("/api/auth/me", as: token)
            let tag = try #require(first.headers[.eTag])
            let again = try await bench.send(.get, "/api/auth/me", as: token, headers: [.ifNoneMatch: tag])
            #expect(again.status == 304 && again.body.isEmpty)
            try await bench.execute("UPDATE users SET name = 'Grace'")
            #expect(try await bench.send(.get, "/api/auth/me", as: token, headers: [.ifNoneMatch: tag]).status == 200)
        }
    }

    @Test func largeAnswersAreCompressedOnRequest() async throws {
        try await withUser { bench, token in
            try await bench.seedLogs(of: 1)
            let path = "/api/v1/logs"
            let gzip: HTTPFields = [.acceptEncoding: "gzip"]
            let plain = try await bench.get(path, as: token)
            let packed = try await bench.send(.get, path, as: token, headers: gzip)
            #expect(plain.headers[.contentEncoding] == nil && packed.headers[.contentEncoding] == "gzip")
            for answer in [plain, packed] { #expect(answer.headers[.vary] == "Accept, Accept-Encoding") }
            let lengths = [plain, packed].compactMap { $0.headers[.contentLength].flatMap { Int($0) } }
            try #require(lengths.count == 2)
            #expect(lengths[1] * 4 < lengths[0])
            // Both encodings of an answer have one ETag.
            let tag = try #require(packed.headers[.eTag])
            #expect(plain.headers[.eTag] == tag && tag.hasPrefix("W/"))
            for headers: HTTPFields in [[.ifNoneMatch: tag], [.ifNoneMatch: tag, .acceptEncoding: "gzip"]] {
                let again = try await bench.send(.get, path, as: token, headers: headers)
                #expect(again.status == 304 && again.body.isEmpty && again.headers[.contentEncoding] == nil)
                #expect(again.headers[.vary] == "Accept, Accept-Encoding")
            }
            let small = try await bench.send(.get, "/api/auth/me", as: token, headers: gzip)
            #expect(small.headers[.contentEncoding] == nil && small.headers[.vary] == "Accept-Encoding")
            let head = try await bench.send(.head, path, as: token, headers: gzip)
            #expect(head.status == 200 && head.headers[.contentEncoding] == "gzip" && head.body.isEmpty)
        }
    }

    /// Text that a client chose is beside a secret. The length of their compressed form would reveal the secret.
    @Test func answersWithAKeyAreNotCompressed() async throws {
        try await withUser { bench, token in
            let name = String(repeating: "ab ", count: 80)
            try await bench.execute(
                "UPDATE users SET name = \(name), is_admin = true, email = repeat('x', 200) || '@example.com'")
            let body = """
                {"name":"\(name)","email":"\(String(repeating: "y", count: 200))@example.com",\
                "models":["\(String(repeating: "m", count: 200))"]}
                """
            let asked: [(HTTPRequest.Method, String, String?)] = [
                (.get, "/api/settings", nil), (.post, "/api/settings/api-key/regenerate", nil),
                (.put, "/api/v1/admin/users/1/key", "{}"), (.post, "/api/v1/admin/users", body),
                (
                    .post, "/api/auth/login",
                    #"{"email":"\#(String(repeating: "x", count: 200))@example.com","password":"password1"}"#
                ),
            ]
            for (method, path, body) in asked {
                let answer = try await bench.send(method, path, body, as: token, headers: [.acceptEncoding: "gzip"])
                #expect(answer.headers[.contentEncoding] == nil, "\(path)")
            }
        }
    }

    @Test func answersForbidFramingAndNameTheirRequest() async throws {
        try await withUser { bench, token in
            let headers = try await bench.get("/api/auth/me", as: token).headers
            #expect(headers[.xContentTypeOptions] == "nosniff")
            #expect(headers[.contentSecurityPolicy] == "default-src 'none'; frame-ancestors 'none'")
            #expect(headers[.requestID] != nil)
            #expect(headers[.accessControlAllowOrigin] == "*")
        }
    }

    @Test func onlyTheseOriginsMayRead() async throws {
        try await withUser(["ADMIN_CORS_ORIGINS": "https://app.example"]) { bench, token in
            let ours = try await bench.send(.get, "/api/auth/me", as: token, headers: [.origin: "https://app.example"])
            #expect(ours.headers[.accessControlAllowOrigin] == "https://app.example")
            #expect(ours.headers[.vary] == "Accept-Encoding, Origin")
            let other = try await bench.send(
                .get, "/api/auth/me", as: token, headers: [.origin: "https://evil.example"])
            #expect(other.headers[.accessControlAllowOrigin] == nil)
        }
    }

    @Test func aBodyOverAMegabyteIsRefused() async throws {
        try await withUser { bench, token in
            let name = String(repeating: "x", count: 1 << 20)
            let answer = try await bench.send(.post, "/api/settings/update", "{\"name\":\"\(name)\"}", as: token)
            #expect(answer.status == 413)
        }
    }

    @Test func aLockedTableIsATimeout() async throws {
        try await withUser(["ADMIN_STATEMENT_TIMEOUT": "200ms"]) { bench, token in
            let lock = try await OpenTransaction.begin(bench.pool) {
                _ = try $0.execute("LOCK TABLE models IN ACCESS EXCLUSIVE MODE")
            }
            let answer = try await bench.get("/api/models", as: token)
            #expect(answer.status == 504, "\(answer)")
            #expect(!answer.body.contains("models"))
            try await lock.end()
            #expect(try await bench.get("/api/models", as: token).status == 200)
        }
    }

    @Test func loginsAreThrottledByEmailAndAddress() async throws {
        try await withUser { bench, _ in
            let wrong = #"{"email":"user1@example.com","password":"nope"}"#
            for _ in 0..<5 { #expect(try await bench.send(.post, "/api/auth/login", wrong).status == 422) }
            let refused = try await bench.send(.post, "/api/auth/login", wrong.replacing("user1", with: "USER1"))
            #expect(refused.status == 429)
            #expect(refused.headers[.retryAfter].flatMap { Int($0) }.map { (1...12).contains($0) } == true)
            let other = #"{"email":"user2@example.com","password":"nope"}"#
            #expect(try await bench.send(.post, "/api/auth/login", other).status == 422)
        }
    }
}
