import Bootstrap
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import NIOCore
import Passwords
import Postgres
import Storage
import Synchronization
import TestSupport

@testable import AdminAPI

/// The JSON API in this process, without sockets. It has a database of its own, and a clock that stands still until a
/// test moves it.
struct AdminBench: Queryable {
    /// 2026-11-23T08:04:09Z, when Laravel answered the goldens over its seeds.
    static let start = Timestamp(microseconds: 1_795_421_049_000_000)

    /// The service's clock.
    final class Clock: Sendable {
        private let moment = Mutex(start)
        var now: Timestamp { moment.withLock { $0 } }
        func advance(by duration: Duration) { moment.withLock { $0 = $0.advanced(by: duration) } }
    }

    let client: any TestClientProtocol
    let database: TestDatabase
    let clock: Clock

    var pool: ConnectionPool { database.pool }

    /// An answer as a client reads it.
    struct Answer: Sendable, CustomStringConvertible {
        let status: Int
        let body: String
        let headers: HTTPFields

        var description: String { "\(status) \(body.prefix(600))" }
        var json: JSON? { JSON(parsing: Array(body.utf8)) }
    }

    /// Gives `body` a running service.
    static func with<T: Sendable>(
        _ environment: [String: String] = [:], _ body: @escaping @Sendable (AdminBench) async throws -> T
    ) async throws -> T {
        try await withTestDatabase { database in
            let given = [
                "DATABASE_URL": database.url(as: .admin), "ADMIN_PORT": "0", "ADMIN_USAGE_LOG": "on",
                // A stream ends soon where a test reads every route.
                "ADMIN_STREAM_LIFETIME": "100ms",
            ]
            let settings = try SettingsReader(environment: given.merging(environment) { _, own in own })
                .read(AdminSettings.init(reading:))
            let clock = Clock()
            let service = AdminService(
                settings: settings, logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
                metrics: PrometheusRegistry(), now: { clock.now })
            let pool = ConnectionPool(
                settings.database.connection, limits: settings.database.limits, logger: service.logger)
            let queue = GroupCommit(writer: EventWriter(pool: pool, now: { clock.now }))
            var application = try await service.buildApplication(queue: queue, pool: pool)
            application.addServices(pool, queue)
            return try await application.test(.router) { client in
                try await body(AdminBench(client: client, database: database, clock: clock))
            }
        }
    }

    /// The table of routes.
    var routes: [Route] {
        let (pool, clock) = (pool, clock)
        return Routes(
            database: Database(pool: pool, exportsAtOnce: 1, timeout: .seconds(1)),
            queue: GroupCommit(writer: EventWriter(pool: pool, now: { clock.now })),
            signIn: SignInPolicy(
                registration: .open, throttle: LoginThrottle(rate: 60), passwords: PasswordQueue(), passwordCost: 4),
            isBehindProxies: false
        ).all
    }

    /// Sends a request with the bearer token `token`, or without one.
    func send(
        _ method: HTTPRequest.Method, _ path: String, _ json: String? = nil, as token: String? = nil,
        headers: HTTPFields = [:]
    ) async throws -> Answer {
        var headers = headers
        if let token { headers[.authorization] = "Bearer \(token)" }
        if json != nil, headers[.contentType] == nil { headers[.contentType] = "application/json" }
        return try await client.execute(
            uri: path, method: method, headers: headers, body: json.map { ByteBuffer(string: $0) }
        ) {
            Answer(status: $0.status.code, body: String(buffer: $0.body), headers: $0.headers)
        }
    }

    func get(_ path: String, as token: String? = nil) async throws -> Answer { try await send(.get, path, as: token) }

    /// A user with the password `password1`.
    @discardableResult
    func makeUser(
        _ id: Int64, name: String = "Ada", email: String? = nil, isAdmin: Bool = false, status: String = "active"
    ) async throws -> Int64 {
        try await execute(
            """
            INSERT INTO users (id, name, email, password, api_key, is_admin, status, created_at, updated_at)
            VALUES (\(id), \(name), \(email ?? "user\(id)@example.com"), \(Self.passwordHash), \("cf_key_of_\(id)"),
                    \(isAdmin),
                    \(status), '2026-11-23 08:02:51', '2026-11-23 08:02:51')
            """)
        try await execute("SELECT setval('users_id_seq', greatest(\(id), (SELECT last_value FROM users_id_seq)))")
        return id
    }

    private static let passwordHash = (try? Password.hash("password1", cost: 4)) ?? ""

    /// A new token of the user.
    func token(of user: Int64) async throws -> String {
        let now = clock.now
        return try await database.pool(as: .admin).withConnection { try AccessToken.create(for: user, $0, now: now) }
    }

    /// Inserts `count` rows like those of Laravel's seeds: of four models, nine hours apart, the last one now.
    func seedLogs(of user: Int64, count: Int = 120) async throws {
        try await execute(
            """
            INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                                  error_message, created_at, updated_at)
            SELECT \(user), (ARRAY['gpt-4', 'claude-haiku', 'gemini, pro', 'say "hi"'])[i % 4 + 1], 100 + i, 50 + i,
                   0.0015 * i, 1000 + i,
                   CASE WHEN i % 12 BETWEEN 6 AND 8 THEN 'error' WHEN i % 12 >= 9 THEN 'rate_limited'
                       ELSE 'success' END,
                   CASE WHEN i % 7 = 0 THEN 'boom ' || i END,
                   '2026-11-23 08:04:09'::timestamp - i * interval '9 hours', '2026-11-23 08:04:09'
            FROM generate_series(0, \(count - 1)) i
            """)
    }
}
