import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import Postgres
import TestSupport
import Testing

@testable import AdminAPI

/// `/api` beside Laravel on one host, as `docs/laravel.md` routes it: what Laravel's page fetches, through a real
/// nginx.
@Suite(.timeLimit(.minutes(30))) struct NginxTests {
    private static let seed: Query = """
        INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                              created_at)
        SELECT 1, 'gpt-4', 100, 50, 0.0015, 1000, 'success', now() FROM generate_series(1, 3)
        """

    private struct Reply: Sendable, CustomStringConvertible {
        let status: UInt
        let body: String
        var description: String { "\(status) \(body.prefix(300))" }
    }

    /// As the page's `fetch` with `credentials: 'same-origin'`.
    private func fetch(
        _ path: String, by proxy: ReverseProxy, cookie: String? = nil, _ headers: [String: String] = [:],
        posting json: String? = nil
    ) async throws -> Reply {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(proxy.port)\(path)")
        request.method = json == nil ? .GET : .POST
        request.headers.add(name: "Accept", value: "application/json")
        request.headers.add(name: "X-Requested-With", value: "XMLHttpRequest")
        if let cookie { request.headers.add(name: "Cookie", value: "theme=dark; \(cookie)") }
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let json {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(string: json))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
        return Reply(
            status: response.status.code, body: String(buffer: try await response.body.collect(upTo: 16 << 20)))
    }

    @Test(arguments: ["database", "file"]) func thePagesCallsWorkBesideLaravel(driver: String) async throws {
        try await LiveAdmin.with(driver: driver, seed: Self.seed) { admin in
            try await ReverseProxy.with(before: admin) { proxy in
                let cookie = try admin.cookieField
                for path in ["/", "/dashboard", "/apiary"] {
                    #expect(try await fetch(path, by: proxy).description == "200 \(ReverseProxy.page)")
                }
                #expect(try await fetch("/api/dashboard/stats", by: proxy).status == 401)
                let stats = try await fetch("/api/dashboard/stats", by: proxy, cookie: cookie)
                #expect(stats.status == 200 && stats.body.contains(#""api_calls":3"#), "\(stats)")

                let change = #"{"name":"Grace"}"#
                let unproven = try await fetch(
                    "/api/settings/update", by: proxy, cookie: cookie, posting: change)
                #expect(unproven.description == #"419 {"message":"CSRF token mismatch."}"#)
                #expect(try await admin.database.text("SELECT name FROM users WHERE id = 1") == "User 1")
                let proofs = [
                    ["X-CSRF-TOKEN": LiveAdmin.csrf],
                    ["X-XSRF-TOKEN": try admin.cookie.value("XSRF-TOKEN", LiveAdmin.csrf)],
                ]
                for proof in proofs {
                    let changed = try await fetch(
                        "/api/settings/update", by: proxy, cookie: cookie, proof, posting: change)
                    #expect(changed.status == 200 && changed.body.contains("Grace"), "\(changed)")
                }
                // The webhook is down. The proxy answers 502, and LiteLLM sends again.
                let batch = "[\(String(repeating: " ", count: 2 << 20))]"
                #expect(try await fetch("/api/webhook/litellm", by: proxy, posting: batch).status == 502)
            }
        }
    }

    @Test func theClientAddressIsTheOneThatTheProxySaw() async throws {
        try await LiveAdmin.with(["ADMIN_TRUSTED_PROXIES": "127.0.0.1"], seed: Self.seed) { admin in
            try await ReverseProxy.with(before: admin) { proxy in
                // From another address of this machine, with an invented one in the header.
                let page = try await Command.run(
                    "/usr/bin/curl",
                    [
                        "--silent", "--fail", "--interface", "127.0.0.2", "--header", "X-Forwarded-For: 203.0.113.9",
                        "--header", "X-Forwarded-Proto: https", "--cookie", try admin.cookieField,
                        "http://127.0.0.1:\(proxy.port)/api/usage/logs?per_page=1",
                    ])
                try await admin.process.waitForOutput("client=127.0.0.2")
                #expect(!admin.process.output.contains("client=203.0.113.9"))
                // The scheme is the one that the proxy saw, not the one that the client claims.
                #expect(page.contains(#""next_page_url":"http://127.0.0.1/api/usage/logs?page=2""#), "\(page)")
            }
        }
    }

    @Test func anExportIsReadWhileItIsMade() async throws {
        let rows = 6_000
        let long: Query = """
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                  error_message, created_at)
            SELECT 1, 'gpt-4', 100, 50, 0.0015, 1000, 'error', repeat('x', 1000), now() FROM generate_series(1, \(rows))
            """
        try await LiveAdmin.with(seed: long) { admin in
            try await ReverseProxy.with(before: admin) { proxy in
                var request = HTTPClientRequest(url: "http://127.0.0.1:\(proxy.port)/api/v1/logs")
                request.headers.add(name: "Cookie", value: try admin.cookieField)
                request.headers.add(name: "Accept", value: "text/csv")
                request.headers.add(name: "Accept-Encoding", value: "identity")
                let response = try await HTTPClient.shared.execute(request, timeout: .seconds(120))
                var pieces = response.body.makeAsyncIterator()
                let first = try #require(try await pieces.next())
                let running: Query = """
                    SELECT count(*) FROM pg_stat_activity
                    WHERE application_name = 'admin-api' AND datname = current_database() AND state <> 'idle'
                    """
                #expect(try await admin.database.number(running) == 1)
                var lines = first.readableBytesView.count { $0 == UInt8(ascii: "\n") }
                var last = first
                while let piece = try await pieces.next() {
                    lines += piece.readableBytesView.count { $0 == UInt8(ascii: "\n") }
                    last = piece
                }
                #expect(lines == rows + 2)
                #expect(String(buffer: last).hasSuffix("\r\n"))
                #expect(try await admin.database.number(running, becoming: 0, within: .seconds(10)) == 0)
            }
        }
    }

    @Test func bothLanguagesSayTheSame() throws {
        let block = try MarkdownPage("docs/laravel.md").block("nginx", with: "location /api/ {")
        #expect(try MarkdownPage("docs/tr/laravel.md").block("nginx", with: "location /api/ {") == block)
    }

    @Test func theLabelsForTraefikAreYAML() async throws {
        for (page, text) in [
            ("docs/laravel.md", "traefik.http.routers.codexflow-api.rule"),
            ("docs/operations/install.md", "traefik.http.routers.codexflow.rule"),
            ("docs/tr/isletim.md", "traefik.http.routers.codexflow.rule"),
        ] {
            let block = try MarkdownPage(page).block("yaml", with: text)
            let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.argv[1]), sys.stdout)"
            let json = try await Command.run("/usr/bin/python3", ["-c", script, block])
            #expect(json.contains("\(text)"), "\(json)")
            #expect(json.contains("Host(`") && json.contains("loadbalancer.server.port"))
        }
    }
}
