import Logging

/// A connection, the thread it lives on, and the closures that visit it one at a time.
actor ConnectionSession {
    /// What a unit of work came to, and whether the connection is in order behind it.
    struct Visit<Value: Sendable>: Sendable {
        var result: Result<Value, any Error>
        var isReusable: Bool
    }

    nonisolated let expiry: ContinuousClock.Instant
    private nonisolated let thread: ConnectionThread
    private nonisolated let cancellation = UnitCancellation()
    private let configuration: ConnectionConfiguration
    private let logger: Logger
    private var connection: Connection?

    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    /// Starts the thread; throws `PostgresError` of kind `connectFailed` if the system has none to give.
    init(_ configuration: ConnectionConfiguration, expiry: ContinuousClock.Instant, logger: Logger) throws {
        self.configuration = configuration
        self.expiry = expiry
        self.logger = logger
        thread = try ConnectionThread()
    }

    /// Opens the connection; throws `PostgresError` of kind `connectFailed`.
    func open() throws {
        connection = nil
        connection = try Connection(configuration, cancellation: cancellation, logger: logger)
    }

    /// Runs `body` on the connection's thread; the cancellation of the calling task cancels its statements.
    nonisolated func visit<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async -> Visit<T> {
        let unit = UnitOfWork()
        return await withTaskCancellationHandler {
            await run(unit, body)
        } onCancel: {
            cancellation.cancel(unit)
        }
    }

    /// Closes the connection and ends the thread; nothing may visit afterwards.
    nonisolated func close() async {
        await disconnect()
        thread.stop()
    }

    private func disconnect() {
        connection = nil
    }

    private func run<T: Sendable>(_ unit: UnitOfWork, _ body: @Sendable (Connection) throws -> T) -> Visit<T> {
        do {
            let connection = try liveConnection()
            cancellation.begin(unit, at: connection.cancelTarget)
            let result = Result { try body(connection) }
            cancellation.end()
            return conclude(result, on: connection)
        } catch {
            return Visit(result: .failure(error), isReusable: false)
        }
    }

    /// The connection, replaced if the server went away while nobody used it.
    private func liveConnection() throws -> Connection {
        if let connection, connection.isAlive {
            return connection
        }
        logger.debug("connection to PostgreSQL was lost while unused")
        try open()
        guard let connection else { throw PostgresError(.connectFailed, "no connection") }
        return connection
    }

    private func conclude<T: Sendable>(_ result: Result<T, any Error>, on connection: Connection) -> Visit<T> {
        if connection.isLost || connection.isIdle {
            return Visit(result: result, isReusable: !connection.isLost)
        }
        // What an open transaction did will be undone; its author must not believe otherwise.
        let left = PostgresError(.misuse, "a transaction or a statement was left open")
        return Visit(result: result.flatMap { _ in .failure(left) }, isReusable: false)
    }
}
