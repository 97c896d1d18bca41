import CLibPQ
import Logging

/// One session with PostgreSQL, used synchronously on its own thread.
///
/// Not `Sendable`: it cannot leave the closure it is lent to. Every call throws `PostgresError`; a call in a cancelled task
/// throws kind `cancelled`.
package final class Connection {
    let handle: OpaquePointer
    let cancellation: UnitCancellation
    let cancelTarget: CancelTarget
    var statements: StatementCache?
    var savepointDepth = 0
    /// Whether PostgreSQL waits in a COPY that nobody serves; the connection is then of no more use.
    private(set) var isInCopy = false
    private let notices: NoticeLog

    /// Opens a session; blocks for at most the connect timeout. Throws kind `connectFailed`.
    init(_ configuration: ConnectionConfiguration, cancellation: UnitCancellation, logger: Logger) throws {
        handle = try Self.open(configuration)
        guard PQstatus(handle) == CONNECTION_OK, let target = CancelTarget(handle) else {
            let message = String(cString: PQerrorMessage(handle)).split(separator: "\n").joined(separator: "; ")
            PQfinish(handle)
            throw PostgresError(.connectFailed, message)
        }
        cancelTarget = target
        self.cancellation = cancellation
        statements = configuration.preparesStatements ? StatementCache(capacity: 100) : nil
        notices = NoticeLog(logger)
        notices.receive(from: handle)
    }

    deinit {
        PQfinish(handle)
    }

    /// The process on the server, as `pg_stat_activity.pid` and `pg_terminate_backend` know it.
    package var backendProcessID: Int32 { PQbackendPID(handle) }

    var isLost: Bool { PQstatus(handle) != CONNECTION_OK }
    var isIdle: Bool { PQtransactionStatus(handle) == PQTRANS_IDLE }

    /// Whether the connection still looks alive, told from what has already arrived; costs no round trip.
    var isAlive: Bool {
        // Twice: the first reads the farewell of a server that went away, the second the end of the stream behind it.
        for _ in 0..<2 where PQconsumeInput(handle) == 0 || PQisBusy(handle) != 0 {
            return false
        }
        return !isLost
    }

    /// Throws if the task is cancelled, or a COPY or a stream of rows is in progress.
    func requireReady() throws {
        if Task.isCancelled {
            throw PostgresError(.cancelled, "cancelled before the statement")
        }
        guard PQtransactionStatus(handle) != PQTRANS_ACTIVE else {
            throw PostgresError(.misuse, "another statement of this connection is in progress")
        }
    }

    /// The statuses of a result that ends a statement well.
    static let complete = [PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY]

    /// The result behind `pointer`, if its status is among `accepted`.
    func check(
        _ pointer: OpaquePointer?, query: String, accepting accepted: [ExecStatusType] = complete
    ) throws -> QueryResult {
        guard let pointer else { throw failure(query: query) }
        let result = QueryResult(pointer)
        if accepted.contains(result.status) {
            return result
        }
        guard [PGRES_FATAL_ERROR, PGRES_BAD_RESPONSE].contains(result.status) else {
            isInCopy = PQtransactionStatus(handle) == PQTRANS_ACTIVE
            throw PostgresError(.misuse, "the statement is of another kind than the call", query: query)
        }
        throw result.error(kind(sqlState: result.diagnostic("C")), query: query)
    }

    /// The error of a call that returned no result at all.
    func failure(query: String) -> PostgresError {
        PostgresError(isLost ? .connectionLost : .misuse, "libpq could not send the statement", query: query)
    }

    /// Sends `sql`, one statement or several, as it is.
    func executeDirectly(_ sql: String) throws -> QueryResult {
        try check(PQexec(handle, sql), query: sql)
    }

    private func kind(sqlState: String?) -> PostgresError.Kind {
        // PostgreSQL's own errors have an SQLSTATE; libpq's, such as a failed write, have none and may leave PQstatus OK.
        if isLost || sqlState == nil {
            .connectionLost
        } else if sqlState == "57014", Task.isCancelled {
            .cancelled
        } else {
            .server
        }
    }

    private static func open(_ configuration: ConnectionConfiguration) throws -> OpaquePointer {
        let parameters = configuration.parameters
        guard !parameters.contains(where: { $0.value.utf8.contains(0) }) else {
            throw PostgresError(.connectFailed, "a connection parameter contains NUL")
        }
        let handle = withCStrings(parameters.map(\.keyword)) { keywords in
            withCStrings(parameters.map(\.value)) { values in PQconnectdbParams(keywords, values, 0) }
        }
        guard let handle else { throw PostgresError(.connectFailed, "out of memory") }
        return handle
    }

    /// Lends `strings` as C's array of strings, ended by a null pointer.
    private static func withCStrings<T>(
        _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> T
    ) -> T {
        let bytes = strings.flatMap { $0.utf8CString }
        return bytes.withUnsafeBufferPointer { buffer in
            var offset = 0
            var pointers: [UnsafePointer<CChar>?] = strings.map { string in
                defer { offset += string.utf8.count + 1 }
                return buffer.baseAddress.map { $0 + offset }
            }
            pointers.append(nil)
            return pointers.withUnsafeBufferPointer { body($0.baseAddress) }
        }
    }
}
