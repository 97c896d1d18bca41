import Domain
import Postgres
import Storage
import TestSupport

/// Who asks `admin-api` with a bearer token.
struct DashboardClient: Sendable {
    private let header: String

    /// As `user`, who becomes an administrator where they are ``Person/administratorID``. Throws `PostgresError`.
    init(_ site: BenchSite, user: Int64) async throws {
        try await site.execute("UPDATE public.users SET is_admin = true WHERE id = \(Int64(Person.administratorID))")
        let token = try await site.pool.withConnection { try AccessToken.create(for: user, $0, now: .now) }
        header = "Authorization: Bearer \(token)"
    }

    /// The body of an answer. Throws `Command.Failure`.
    func get(_ path: String, of service: MeasuredService, into file: String = "-") async throws -> String {
        try await Command.run(
            "/usr/bin/env",
            [
                "curl", "--silent", "--show-error", "--fail", "--header", header, "--output", file,
                "http://127.0.0.1:\(service.port)\(path)",
            ], within: .seconds(600))
    }

    /// Asks again and again. Throws what ``WrkReport/ofRun(connections:seconds:script:_:)`` throws.
    func load(
        _ path: String, of service: MeasuredService, connections: Int, seconds: Int
    ) async throws -> WrkReport {
        try await WrkReport.ofRun(
            connections: connections, seconds: seconds, script: "wrk-report.lua",
            ["--header", header, "http://127.0.0.1:\(service.port)\(path)"])
    }
}
