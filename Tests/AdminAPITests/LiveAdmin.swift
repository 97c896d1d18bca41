import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// `admin-api` as a process, with a Laravel session of user 1.
struct LiveAdmin: Sendable {
    static let csrf = "csrfcsrfcsrfcsrfcsrfcsrfcsrfcsrfcsrfcsrf"
    static let cookieName = "laravel-session"

    let process: ServiceProcess
    let port: Int
    let database: TestDatabase
    let cookie: LaravelCookie

    /// The cookie header of that session.
    var cookieField: String { get throws { "\(Self.cookieName)=\(try cookie.value(Self.cookieName))" } }

    /// Gives `body` the running program, on a database in which `seed` is.
    static func with(
        driver: String = "database", _ environment: [String: String] = [:], seed: Query,
        _ body: @escaping @Sendable (LiveAdmin) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let payload = Data(LaravelCookie.session(of: 1, token: csrf).utf8)
        try payload.write(to: folder.appending(path: LaravelCookie.sessionID))
        let laravel = [
            "APP_KEY": LaravelCookie.key, "SESSION_DRIVER": driver,
            "SESSION_FILES": folder.path(), "ADMIN_PORT": "0", "ADMIN_USAGE_LOG": "on",
        ]
        try await withTestDatabase { database in
            try await database.execute(
                """
                INSERT INTO users (id, name, email, password, api_key, is_admin, created_at, updated_at)
                SELECT i, 'User ' || i, 'user' || i || '@example.com', 'x', 'cf_key_of_' || i,
                    i = \(administrator)::bigint, now(), now()
                FROM unnest(ARRAY[1, 2, \(administrator)::bigint]) i
                """)
            try await database.execute("SELECT setval('users_id_seq', 100)")
            try await database.execute(
                """
                INSERT INTO sessions (id, user_id, payload, last_activity)
                VALUES (\(LaravelCookie.sessionID), 1, \(payload.base64EncodedString()), extract(epoch FROM now())::int)
                """)
            try await database.execute(seed)
            let given = laravel.merging(["DATABASE_URL": database.url(as: .admin)]) { $1 }.merging(environment) { $1 }
            let process = try ServiceProcess.start(product: "admin-api", environment: given)
            do {
                try await body(
                    LiveAdmin(
                        process: process, port: try await process.waitUntilListening(), database: database,
                        cookie: try LaravelCookie()))
            } catch {
                process.kill()
                try await process.waitForExit()
                throw error
            }
            process.terminate()
            #expect(try await process.waitForExit() == 0)
        }
    }

    /// The administrator. No test guesses this id.
    static let administrator: Int64 = 7_000_001

    /// A new token of the user.
    func token(of user: Int64) async throws -> String {
        try await database.pool(as: .admin).withConnection { try AccessToken.create(for: user, $0, now: .now) }
    }
}
