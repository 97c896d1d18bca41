internal import Foundation
internal import Logging
package import Postgres
package import Storage

/// A database of one test's own, dropped at its end.
package struct TestDatabase: Sendable {
    /// What is in it at first.
    package enum Contents: Sendable {
        /// Nothing, as `CREATE DATABASE` leaves it.
        case empty
        /// Every migration.
        case migrated
    }

    package let configuration: ConnectionConfiguration
    /// For the test's own statements, as a superuser; the code under test has its program's role.
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

    /// For code under test that stands for the program of `role`.
    package func pool(as role: DatabaseRole) -> ConnectionPool {
        guard let pool = rolePools[role] else { preconditionFailure("no pool for \(role)") }
        return pool
    }

    /// Where the program of `role` finds it, as `DATABASE_URL` wants it.
    package func url(as role: DatabaseRole) -> String { configuration.role(role).url }

    fileprivate func close() async {
        for pool in rolePools.values { await pool.close() }
        await pool.close()
    }
}

/// How many databases there are at one time: each may have a dozen connections, and `max_connections` is 100.
private let permits = Permits(4)

private enum Holder {
    /// Whether this task has a database already: a second one must not wait for others who wait for theirs.
    @TaskLocal static var hasPermit = false
}

/// Lends `body` a database of its own.
///
/// Throws ``TestServer/Refusal``, `PostgresError`, and what `body` throws.
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
    // The roles are made with it.
    let migrated = try await TemplateDatabase.shared.name(on: server)
    let template = contents == .migrated ? migrated : "template0"
    let name = "test_" + UUID().uuidString.lowercased().replacing("-", with: "_")
    let owner = DatabaseRole.owner.name(prefix: TestRoles.prefix)
    try await onServer(server, "CREATE DATABASE \(name) TEMPLATE \(template)")
    // A clone keeps the rights inside, not those on the database; nobody but its owner may fill an empty one.
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
    // The test's own failure says more than one of the clean-up.
    do {
        try await onServer(server, "DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    } catch {
        return try result.flatMap { _ in .failure(error) }.get()
    }
    return try result.get()
}

/// Runs one statement that PostgreSQL refuses inside a transaction, in the maintenance database.
package func onServer(_ server: ConnectionConfiguration, _ statement: String) async throws {
    // A cancelled test cleans up all the same.
    try await Task {
        try await withPool(server) { pool in
            try await pool.withConnection { try $0.executeScript(statement) }
        }
    }.value
}

/// Lends `body` a pool that is closed at the end.
package func withPool<Result: Sendable>(
    _ configuration: ConnectionConfiguration, connections: Int = 1,
    _ body: @Sendable (ConnectionPool) async throws -> Result
) async throws -> Result {
    try await ConnectionPool.withPool(
        configuration, limits: PoolLimits(maxConnections: connections), logger: .test, body)
}

extension Logger {
    /// Says what goes wrong and no more.
    static var test: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .warning
        return logger
    }
}
