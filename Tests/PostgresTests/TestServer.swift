import Dispatch
import Glibc
import Logging
import Postgres
import Synchronization
import Testing

/// The PostgreSQL server of these tests, from `TEST_DATABASE_URL`; fails the test if there is none, or it is not local.
func testConfiguration(named name: String = "postgres-tests-\(UInt64.random(in: 0 ... .max))") throws
    -> ConnectionConfiguration
{
    let advice: Comment = "set TEST_DATABASE_URL, such as postgresql://postgres@127.0.0.1/postgres"
    let variable = try #require(getenv("TEST_DATABASE_URL"), advice)
    var configuration = try ConnectionConfiguration(url: String(cString: variable))
    let isLocal = configuration.host.hasPrefix("/") || ["127.0.0.1", "localhost", "::1"].contains(configuration.host)
    try #require(isLocal, "TEST_DATABASE_URL must name a local server: tests write to it")
    // The driver's tests make tables of their own.
    configuration.searchPath = "public"
    configuration.applicationName = name
    return configuration
}

/// Lends a pool of at most `connections` to `body`, and closes it.
func withPool<T>(
    connections: Int = 4, leaseDeadline: Duration = .seconds(30), _ configuration: ConnectionConfiguration? = nil,
    logger: Logger = Logger(label: "tests"), _ body: (ConnectionPool) async throws -> T
) async throws -> T {
    try await ConnectionPool.withPool(
        try configuration ?? testConfiguration(),
        limits: PoolLimits(maxConnections: connections, leaseDeadline: leaseDeadline), logger: logger, body)
}

/// Lends a table of its own to `body`, and drops it.
func withTable<T>(
    _ columns: String, in pool: ConnectionPool, _ body: (Query) async throws -> T
) async throws -> T {
    let name = Query(unsafeSQL: "driver_test_\(UInt64.random(in: 0 ... .max))")
    try await pool.withConnection { _ = try $0.execute("CREATE TABLE \(name) (\(unsafeSQL: columns))") }
    let result = await Result { try await body(name) }
    try await pool.withConnection { _ = try $0.execute("DROP TABLE \(name)") }
    return try result.get()
}

extension Result where Failure == any Error {
    /// What `body` returns or throws.
    init(_ body: () async throws -> Success) async {
        do {
            self = .success(try await body())
        } catch {
            self = .failure(error)
        }
    }
}

/// The `PostgresError` that `body` throws; fails the test if it throws none.
func postgresError(
    _ body: () async throws -> Void, sourceLocation: SourceLocation = #_sourceLocation
) async throws -> PostgresError {
    let error = await #expect(throws: PostgresError.self, sourceLocation: sourceLocation) { try await body() }
    return try #require(error, sourceLocation: sourceLocation)
}

/// Runs `body` elsewhere while the calling thread waits; for closures on a connection's thread, which may block.
func blockUntilDone<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) -> Result<T, any Error> {
    let outcome = Outcome<T>()
    Task {
        let result = await Result { try await body() }
        outcome.set(result)
    }
    return outcome.wait()
}

private final class Outcome<Value: Sendable>: Sendable {
    private let isSet = DispatchSemaphore(value: 0)
    private let result = Mutex<Result<Value, any Error>>(.failure(CancellationError()))

    func set(_ value: Result<Value, any Error>) {
        result.withLock { $0 = value }
        isSet.signal()
    }

    func wait() -> Result<Value, any Error> {
        isSet.wait()
        return result.withLock { $0 }
    }
}
