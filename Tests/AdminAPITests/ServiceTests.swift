import AsyncHTTPClient
import Crypto
import Domain
import Foundation
import NIOCore
import NIOHTTP1
import Postgres
import Storage
import TestSupport
import Testing

/// The program as an operator runs it: a process, sockets, signals.
@Suite(.timeLimit(.minutes(30))) struct ServiceTests {
    private struct Admin: Sendable {
        let process: ServiceProcess
        let port: Int
        let token: String

        /// Begins a request; its body is still to be read.
        func begin(
            _ path: String, accept: String = "*/*", encoding: String? = nil, as other: String? = nil,
            by client: HTTPClient = .shared
        ) async throws -> HTTPClientResponse {
            var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
            request.headers.add(name: "Authorization", value: "Bearer \(other ?? token)")
            request.headers.add(name: "Accept", value: accept)
            if let encoding { request.headers.add(name: "Accept-Encoding", value: encoding) }
            return try await client.execute(request, timeout: .seconds(120))
        }

        /// Status and body of an answer.
        func get(_ path: String) async throws -> (status: Int, body: String) {
            let response = try await begin(path)
            return (Int(response.status.code), String(buffer: try await response.body.collect(upTo: 16 << 20)))
        }

        /// Status and body of a small export, over a connection of its own: the server may just be closing a kept one.
        func exportAlone(_ path: String, as other: String? = nil) async throws -> (status: Int, body: String) {
            let client = HTTPClient()
            do {
                let response = try await begin(path, accept: "text/csv", as: other, by: client)
                let body = String(buffer: try await response.body.collect(upTo: 1 << 20))
                try await client.shutdown()
                return (Int(response.status.code), body)
            } catch {
                try await client.shutdown()
                throw error
            }
        }

        /// The most memory that the process ever held, in bytes.
        var peakMemory: Int {
            get throws {
                let status = try String(contentsOfFile: "/proc/\(process.processID)/status", encoding: .utf8)
                let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
                return (line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? .max) << 10
            }
        }
    }

    /// Gives `body` a running program and a token of user 1, who has `rows` calls.
    private func withAdmin(
        rows: Int = 0, _ settings: [String: String] = [:],
        _ body: @escaping @Sendable (Admin, TestDatabase) async throws -> Void
    ) async throws {
        try await withTestDatabase { database in
            try await database.execute("INSERT INTO users (id, name, email, password) VALUES (1, 'Ada', 'a@b.c', 'x')")
            try await database.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                      created_at)
                SELECT 1, 'gpt-4', g, 1, g * 0.000001, 1, 'success', '2026-11-01'::timestamp + g * interval '10 seconds'
                FROM generate_series(1, \(rows)) g
                """)
            let token = try await database.pool(as: .admin).withConnection {
                try AccessToken.create(for: 1, $0, now: .now)
            }
            let environment = ["DATABASE_URL": database.url(as: .admin), "ADMIN_PORT": "0"]
            let process = try ServiceProcess.start(
                product: "admin-api", environment: environment.merging(settings) { _, own in own })
            do {
                let admin = Admin(process: process, port: try await process.waitUntilListening(), token: token)
                try await body(admin, database)
            } catch {
                process.kill()
                try await process.waitForExit()
                throw error
            }
            process.terminate()
            #expect(try await process.waitForExit() == 0)
        }
    }

    /// Reads an export to its end and checks its last line: rows, cost and digest.
    private func check(_ body: HTTPClientResponse.Body, of rows: Int, _ database: TestDatabase) async throws {
        var digest = SHA256()
        var last: [UInt8] = []
        var lines = 0
        for try await piece in body {
            let bytes = Array(piece.readableBytesView)
            lines += bytes.count { $0 == UInt8(ascii: "\n") }
            // The digest is of all lines before the last one, which holds it.
            last += bytes
            if last.count > 1024 {
                digest.update(data: last.dropLast(1024))
                last = Array(last.suffix(1024))
            }
        }
        let text = String(decoding: last, as: UTF8.self)
        let mark = try #require(text.range(of: "#rows="))
        digest.update(data: Data(text[..<mark.lowerBound].utf8))
        let cost = try #require(try await database.text("SELECT trim_scale(sum(total_cost)) FROM api_logs"))
        #expect(lines == rows + 2)
        #expect(
            text[mark.lowerBound...]
                == "#rows=\(rows),cost=\(cost),ledger_cost=\(cost),sha256=\(digest.finalize().lowercaseHex)\r\n")
    }

    @Test func anExportIsWholeAndMemoryIsNot() async throws {
        let rows = 100_000
        try await withAdmin(rows: rows) { admin, database in
            #expect(try await admin.get("/api/v1/me").status == 200)
            let plain = try await admin.begin("/api/v1/logs", accept: "text/csv")
            try await check(plain.body, of: rows, database)
            let packed = try await admin.begin("/api/v1/logs", accept: "text/csv", encoding: "gzip")
            #expect(packed.headers.first(name: "Content-Encoding") == "gzip")
            // The client unpacks it.
            try await check(packed.body, of: rows, database)
            try await database.execute("UPDATE users SET is_admin = true")
            let all = try await admin.begin("/api/v1/logs?from=2026-11-01", accept: "text/csv")
            try await check(all.body, of: rows, database)
            #expect(try admin.peakMemory < 100 << 20)
        }
    }

    @Test func aReaderWhoTakesNothingIsCutOffAndStarvesNobody() async throws {
        try await withAdmin(rows: 100_000, ["ADMIN_IDLE_TIMEOUT": "2s"]) { admin, database in
            try await database.execute("INSERT INTO users (id, name, email, password) VALUES (2, 'Bob', 'b@b.c', 'x')")
            let other = try await database.pool(as: .admin).withConnection {
                try AccessToken.create(for: 2, $0, now: .now)
            }
            let busy: Query = """
                SELECT count(*) FROM pg_stat_activity
                WHERE application_name = 'admin-api' AND datname = current_database() AND state <> 'idle'
                """
            // Longer lines than CSV's: the kernels at both ends buffer several MB before anybody waits.
            let stalled = try await admin.begin("/api/v1/logs", accept: "application/x-ndjson")
            #expect(stalled.status == .ok)
            #expect(try await database.number(busy, becoming: 1, within: .seconds(10)) == 1)
            // A user may have only one export at a time. Other users are not affected.
            #expect(try await admin.exportAlone("/api/v1/logs").status == 429)
            #expect(try await admin.exportAlone("/api/v1/logs", as: other).body.contains("#rows=0,"))
            // PostgreSQL has its connection back while the reader still takes nothing, and the user's place is free.
            #expect(try await database.number(busy, becoming: 0, within: .seconds(90)) == 0)
            #expect(try await admin.exportAlone("/api/v1/logs?model=none").body.contains("#rows=0,"))
            await #expect(throws: (any Error).self) { for try await _ in stalled.body {} }
        }
    }

    @Test func aReaderWhoLeavesEndsHisExport() async throws {
        try await withAdmin(rows: 100_000) { admin, database in
            for _ in 0..<6 {
                let response = try await admin.begin("/api/usage/export")
                for try await _ in response.body { break }
            }
            let running: Query = """
                SELECT count(*) FROM pg_stat_activity
                WHERE application_name = 'admin-api' AND datname = current_database() AND state <> 'idle'
                """
            #expect(try await database.number(running, becoming: 0, within: .seconds(20)) == 0)
            #expect(try await admin.get("/api/dashboard/stats").status == 200)
        }
    }

    @Test func aDatabaseThatIsAwayIsAProblemAtOnceAndForgotten() async throws {
        try await withAdmin { admin, database in
            #expect(try await admin.get("/api/v1/me").status == 200)
            let server = try TestServer.configuration()
            try await onServer(server, "ALTER DATABASE \(database.name) ALLOW_CONNECTIONS false")
            // A superuser's own connections are not let in either; this one belongs to another database.
            try await withPool(server) { pool in
                _ = try await pool.withConnection {
                    try $0.query(
                        """
                        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE application_name = 'admin-api' AND datname = \(database.name)
                        """)
                }
            }
            let start = ContinuousClock.now
            let away = try await admin.get("/api/v1/me")
            #expect(away.status == 503, "\(away)")
            #expect(away.body.contains(#""code":"unavailable""#))
            #expect(try await admin.get("/health/live").status == 200)
            #expect(try await admin.get("/health/ready").status == 503)
            #expect(ContinuousClock.now - start < .seconds(10))
            try await onServer(server, "ALTER DATABASE \(database.name) ALLOW_CONNECTIONS true")
            #expect(try await admin.get("/api/v1/me").status == 200)
        }
    }

    @Test func aRoleThatIsTooWeakIsRefusedAtStart() async throws {
        try await withTestDatabase { database in
            let process = try ServiceProcess.start(
                product: "admin-api", environment: ["DATABASE_URL": database.url(as: .worker), "ADMIN_PORT": "0"])
            #expect(try await process.waitForExit() == 1)
            #expect(process.output.contains("codexflow grants"))
        }
    }

    @Test func theHealthCheckAsksTheRunningProgram() async throws {
        try await withAdmin { admin, database in
            let environment = ["DATABASE_URL": database.url(as: .admin), "ADMIN_PORT": "\(admin.port)"]
            let check = try ServiceProcess.start(
                product: "admin-api", arguments: ["--check-health"], environment: environment)
            #expect(try await check.waitForExit() == 0)
        }
    }
}
