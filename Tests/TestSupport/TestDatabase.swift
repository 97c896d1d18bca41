internal import Crypto
internal import Domain
internal import Foundation
internal import Logging
package import Postgres
package import Storage
internal import Synchronization

/// A database of one test, which is dropped at its end.
package struct TestDatabase: Sendable {
    /// What is in it at first.
    package enum Contents: Sendable {
        /// Empty, as `CREATE DATABASE` makes it.
        case empty
        /// With every migration.
        case migrated
    }

    package let configuration: ConnectionConfiguration
    /// For statements of the test, as a superuser. The code under test has the role of its program.
    package let pool: ConnectionPool
    private let rolePools: [DatabaseRole: ConnectionPool]

    package var name: String { configuration.database }

    fileprivate init(_ configuration: ConnectionConfiguration) {
        let open = { ConnectionPool($0, limits: PoolLimits(maxConnections: 4), logger: .test) }
        self.configuration = configuration
        pool = open(configuration)
        rolePools = Dictionary(
            uniqueKeysWithValues: DatabaseRole.allCases.map { ($0, open(configuration.role($0))) })
    }

    /// For code under test of the program with `role`.
    package func pool(as role: DatabaseRole) -> ConnectionPool {
        guard let pool = rolePools[role] else { preconditionFailure("no pool for \(role)") }
        return pool
    }

    /// The `DATABASE_URL` of the program with `role`.
    package func url(as role: DatabaseRole) -> String { configuration.role(role).url }

    fileprivate func close() async {
        for pool in rolePools.values { await pool.close() }
        await pool.close()
    }
}

/// How many databases exist at one time. Each may have a dozen connections, and `max_connections` is 100.
private let permits = Permits(4)

private enum Holder {
    /// Whether this task has a database already. Its second one must not wait for a permit, as that could deadlock.
    @TaskLocal static var hasPermit = false
}

/// Runs `body` with a database of its own.
///
/// - Throws: ``TestServer/Refusal`` when there is no test server; ``PostgresError``; what `body` throws.
@discardableResult
package func withTestDatabase<Result>(
    _ contents: TestDatabase.Contents = .migrated, isolation: isolated (any Actor)? = #isolation,
    _ body: (TestDatabase) async throws -> Result
) async throws -> Result {
    let server = try TestServer.configuration()
    let isFirst = !Holder.hasPermit
    if isFirst {
        await permits.acquire()
    }
    defer {
        if isFirst {
            permits.release()
        }
    }
    // The template also makes the roles.
    let migrated = try await TemplateDatabase.shared.name(on: server)
    let template = contents == .migrated ? migrated : "template0"
    let name = "test_" + UUID().uuidString.lowercased().replacing("-", with: "_")
    let owner = DatabaseRole.owner.name(prefix: TestRoles.prefix)
    try await onServer(server, "CREATE DATABASE \(name) TEMPLATE \(template)")
    // A clone keeps the rights inside, but not those on the database. Only its owner may fill an empty one.
    try await onServer(
        server,
        contents == .migrated
            ? "GRANT CREATE ON DATABASE \(name) TO \(owner)" : "ALTER DATABASE \(name) OWNER TO \(owner)")
    let database = TestDatabase(server.database(name))
    let result: Swift.Result<Result, any Error>
    do {
        result = .success(try await Holder.$hasPermit.withValue(true) { try await body(database) })
    } catch {
        result = .failure(error)
    }
    await database.close()
    // The failure of the test says more than one of the clean-up.
    do {
        try await onServer(server, "DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    } catch {
        return try result.flatMap { _ in .failure(error) }.get()
    }
    return try result.get()
}

/// Runs one statement in the maintenance database that PostgreSQL refuses inside a transaction.
///
/// - Throws: ``PostgresError``.
package func onServer(_ server: ConnectionConfiguration, _ statement: String) async throws {
    // A cancelled test must clean up too.
    try await Task {
        try await withPool(server) { pool in
            try await pool.withConnection { try $0.executeScript(statement) }
        }
    }.value
}

/// Runs `body` with a pool that is closed at the end.
///
/// - Throws: What `body` throws.
package func withPool<Result: Sendable>(
    _ configuration: ConnectionConfiguration, connections: Int = 1,
    _ body: @Sendable (ConnectionPool) async throws -> Result
) async throws -> Result {
    try await ConnectionPool.withPool(
        configuration, limits: PoolLimits(maxConnections: connections), logger: .test, body)
}

extension Logger {
    /// A logger of warnings and errors.
    static var test: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .warning
        return logger
    }
}

/// The migrated database that test databases are cloned from. It is made once for each state of `migrations/`.
actor TemplateDatabase {
    static let shared = TemplateDatabase()

    private var making: Task<String, any Error>?

    /// Its name on `server`, which it waits for.
    func name(on server: ConnectionConfiguration) async throws -> String {
        let task = making ?? Task { try await Self.make(on: server) }
        making = task
        return try await task.value
    }

    /// Builds a draft and renames it, so that a half-built template is never used. The second of two drops its draft.
    private static func make(on server: ConnectionConfiguration) async throws -> String {
        let migrations = try Migration.load(from: Checkout.migrations)
        let state = SHA256.hash(data: Data(migrations.map(\.checksum).joined().utf8)).lowercaseHex
        let name = "test_template_\(state.prefix(16))"
        let isThere = try await withPool(server) { pool in
            try await pool.withConnection { connection in
                try !connection.query("SELECT FROM pg_database WHERE datname = \(name)").isEmpty
            }
        }
        if isThere { return name }
        let draft = "test_draft_" + UUID().uuidString.lowercased().replacing("-", with: "_")
        try await onServer(server, "CREATE DATABASE \(draft) TEMPLATE template0")
        try await withPool(server.database(draft)) { pool in
            try await pool.withConnection { connection in
                _ = try Migrator(migrations: migrations).migrate(connection, now: UsageEvent.sampleTime)
            }
        }
        try await TestRoles.grant(on: server.database(draft))
        do {
            try await onServer(server, "ALTER DATABASE \(draft) RENAME TO \(name)")
        } catch let error as PostgresError where error.sqlState == "42P04" {
            try await onServer(server, "DROP DATABASE \(draft) WITH (FORCE)")
        }
        return name
    }
}

/// A number of permits, which are given in the order of the requests.
final class Permits: Sendable {
    private struct State {
        var free: Int
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    init(_ count: Int) {
        state = Mutex(State(free: count))
    }

    func acquire() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                guard state.free > 0 else {
                    state.waiters.append(continuation)
                    return false
                }
                state.free -= 1
                return true
            }
            if isFree {
                continuation.resume()
            }
        }
    }

    func release() {
        let next: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard !state.waiters.isEmpty else {
                state.free += 1
                return nil
            }
            return state.waiters.removeFirst()
        }
        next?.resume()
    }
}

/// A database for single queries of a test.
package protocol Queryable: Sendable {
    var pool: ConnectionPool { get }
}

extension Queryable {
    package func execute(_ query: Query) async throws {
        _ = try await pool.withConnection { try $0.execute(query) }
    }

    /// The first column of the first row, as text.
    package func text(_ query: Query) async throws -> String? {
        try await pool.withConnection { connection in
            try connection.query("SELECT (\(query))::text")[0].decode(0, as: String?.self)
        }
    }

    /// The first column of the first row, a whole number.
    package func number(_ query: Query) async throws -> Int {
        try await pool.withConnection { try $0.query("SELECT (\(query))::bigint")[0].decode(0) }
    }

    /// Waits until the number is `expected`, and returns the last number.
    ///
    /// - Throws: ``PostgresError``.
    package func number(_ query: Query, becoming expected: Int, within deadline: Duration) async throws -> Int {
        var last = try await number(query)
        do {
            try await eventually("\(expected)", within: deadline) {
                last = try await number(query)
                return last == expected
            }
        } catch is NotInTime {}
        return last
    }
}

extension TestDatabase: Queryable {}
