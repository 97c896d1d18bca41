import CLibPQ
import Logging

/// One session with PostgreSQL, used synchronously on its own thread.
///
/// It is not `Sendable`, so it cannot leave the closure that uses it. A call in a cancelled task throws
/// ``PostgresError`` `.cancelled`.
package final class Connection {
    let handle: OpaquePointer
    let cancellation: UnitCancellation
    let cancelTarget: CancelTarget
    var statements: StatementCache?
    var savepointDepth = 0
    /// Whether PostgreSQL waits in a COPY that has no writer. Then the connection cannot be used again.
    private(set) var isInCopy = false
    private let access: ConnectionConfiguration.Access?
    private let notices: NoticeLog

    /// Opens a session. It blocks for at most the connect timeout.
    ///
    /// - Throws: ``PostgresError`` `.connectFailed`.
    static func open(
        _ configuration: ConnectionConfiguration, cancellation: UnitCancellation, logger: Logger
    ) throws -> Connection {
        let handle = try open(configuration)
        guard PQstatus(handle) == CONNECTION_OK, let target = CancelTarget(handle) else {
            let message = String(cString: PQerrorMessage(handle)).split(separator: "\n").joined(separator: "; ")
            PQfinish(handle)
            throw PostgresError(.connectFailed, message)
        }
        return Connection(
            handle: handle, cancelTarget: target, cancellation: cancellation,
            statements: configuration.preparesStatements ? StatementCache(capacity: 100) : nil,
            access: configuration.access, notices: NoticeLog(logger))
    }

    private init(
        handle: OpaquePointer, cancelTarget: CancelTarget, cancellation: UnitCancellation,
        statements: StatementCache?, access: ConnectionConfiguration.Access?, notices: NoticeLog
    ) {
        self.handle = handle
        self.cancelTarget = cancelTarget
        self.cancellation = cancellation
        self.statements = statements
        self.access = access
        self.notices = notices
        notices.receive(from: handle)
    }

    deinit {
        PQfinish(handle)
    }

    /// The id of the server's process, as in `pg_stat_activity.pid`.
    package var backendProcessID: Int32 { PQbackendPID(handle) }

    var isLost: Bool { PQstatus(handle) != CONNECTION_OK }
    var isIdle: Bool { PQtransactionStatus(handle) == PQTRANS_IDLE }

    /// Whether the connection looks alive, judged by what has already arrived. It costs no round trip.
    var isAlive: Bool {
        // The first read gets the last message of a server that went away. The second gets the end of the stream.
        for _ in 0..<2 where PQconsumeInput(handle) == 0 || PQisBusy(handle) != 0 {
            return false
        }
        return !isLost
    }

    /// Whether the server takes no writes, although nobody has asked for any server. The session may have been opened
    /// while the address led to a standby, so the next one looks again.
    ///
    /// PostgreSQL reports it from version 14 on, of a change with the answer to the first statement after it
    /// (PostgreSQL, "Asynchronous Operations").
    var isUnwanted: Bool {
        access != .any && (reports("in_hot_standby") || reports("default_transaction_read_only"))
    }

    private func reports(_ parameter: String) -> Bool {
        guard let value = PQparameterStatus(handle, parameter) else { return false }
        return String(cString: value) == "on"
    }

    /// Requires that a statement can begin.
    ///
    /// - Throws: ``PostgresError`` when the task is cancelled, or a COPY or a stream of rows is in progress.
    func requireReady() throws {
        if Task.isCancelled {
            throw PostgresError(.cancelled, "cancelled before the statement")
        }
        guard PQtransactionStatus(handle) != PQTRANS_ACTIVE else {
            throw PostgresError(.misuse, "another statement of this connection is in progress")
        }
    }

    /// The statuses of a result that ends a statement without an error.
    static let complete = [PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY]

    /// The result at `pointer`, if its status is among `accepted`.
    func check(
        _ pointer: OpaquePointer?, query: String, accepting accepted: [ExecStatusType] = complete
    ) throws -> QueryResult {
        guard let pointer else { throw failure(query: query) }
        let result = QueryResult(pointer)
        if accepted.contains(result.status) {
            guard !notices.takeReplicationDoubt() else {
                throw PostgresError(
                    .replicationUnknown, "the wait for a synchronous standby was cut short", query: query)
            }
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
        // PostgreSQL's own errors have an SQLSTATE; libpq's, such as a failed write, have none and may leave PQstatus
        // OK.
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

extension Connection {
    /// The rows that `query` returns.
    ///
    /// - Throws: ``PostgresError``.
    package func query(_ query: Query) throws -> [Row] {
        let result = try run(query)
        return result.rows(columns: result.columns)
    }

    /// Executes `query`. Returns the number of rows that it inserted, updated, deleted or selected.
    ///
    /// - Throws: ``PostgresError``.
    @discardableResult
    package func execute(_ query: Query) throws -> Int {
        try run(query).affectedRows
    }

    /// Executes SQL text of one or several statements. Without BEGIN and COMMIT in the text they are one transaction.
    ///
    /// - Throws: ``PostgresError``.
    package func executeScript(_ sql: String) throws {
        try requireReady()
        try Query(unsafeSQL: sql).validate(sql)
        _ = try executeDirectly(sql)
    }

    /// Gives the rows of `query` to `body` one by one, without holding more than one in memory.
    ///
    /// When `body` throws, the rest is read and dropped, and the connection stays usable.
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
    package func forEachRow(_ query: Query, _ body: (Row) throws -> Void) throws {
        let sql = try prepareToSend(query)
        let statement = try preparedStatement(for: sql)
        try send(query, sql, as: statement?.name)
        PQsetSingleRowMode(handle)
        var failure: (any Error)?
        var columns: [String]?
        while let pointer = PQgetResult(handle) {
            do {
                let result = try check(pointer, query: sql, accepting: Self.complete + [PGRES_SINGLE_TUPLE])
                guard failure == nil else { continue }
                let names = columns ?? result.columns
                columns = names
                try result.rows(columns: names).forEach(body)
            } catch {
                failure = failure ?? note(error, statement)
                // A COPY would return this result for ever. The connection cannot be used again.
                guard !isInCopy else { break }
            }
        }
        if let failure {
            throw failure
        }
    }

    /// The whole result of `query`.
    func run(_ query: Query) throws -> QueryResult {
        let sql = try prepareToSend(query)
        let wasIdle = isIdle
        let statement = try preparedStatement(for: sql)
        do {
            return try check(execute(query, sql, as: statement?.name), query: sql)
        } catch {
            let error = note(error, statement)
            // Outside a transaction a stale prepared statement had no effect, so it is prepared again.
            guard wasIdle, statement?.isFresh == false, (error as? PostgresError)?.isSafeToRetry == true else {
                throw error
            }
            return try run(query)
        }
    }

    private func prepareToSend(_ query: Query) throws -> String {
        try requireReady()
        let sql = query.sql
        try query.validate(sql)
        return sql
    }

    private func execute(_ query: Query, _ sql: String, as name: String?) -> OpaquePointer? {
        let count = Int32(query.parameters.count)
        return query.parameters.withPointers { values in
            if let name {
                PQexecPrepared(handle, name, count, values, nil, nil, 0)
            } else {
                PQexecParams(handle, sql, count, nil, values, nil, nil, 0)
            }
        }
    }

    private func send(_ query: Query, _ sql: String, as name: String?) throws {
        let count = Int32(query.parameters.count)
        let isSent = query.parameters.withPointers { values in
            if let name {
                PQsendQueryPrepared(handle, name, count, values, nil, nil, 0)
            } else {
                PQsendQueryParams(handle, sql, count, nil, values, nil, nil, 0)
            }
        }
        guard isSent == 1 else { throw failure(query: sql) }
    }
}

extension Connection {
    /// A statement that PostgreSQL keeps for this connection.
    struct PreparedStatement {
        var name: String
        /// Whether it was prepared just now, so that it cannot be stale.
        var isFresh: Bool
    }

    /// The prepared statement of `sql`; `nil` where statements are not prepared.
    func preparedStatement(for sql: String) throws -> PreparedStatement? {
        if let name = statements?.name(for: sql) {
            return PreparedStatement(name: name, isFresh: false)
        }
        // In a failed transaction PostgreSQL neither prepares nor deallocates.
        guard statements != nil, PQtransactionStatus(handle) != PQTRANS_INERROR else { return nil }
        if statements?.takeLeftovers() == true { _ = try executeDirectly("DEALLOCATE ALL") }
        if let evicted = statements?.evict() {
            _ = try executeDirectly("DEALLOCATE \(evicted)")
        }
        guard let name = statements?.makeName() else { return nil }
        _ = try check(PQprepare(handle, name, sql, 0, nil), query: sql)
        statements?.insert(name, for: sql)
        return PreparedStatement(name: name, isFresh: true)
    }

    /// Forgets all statements if `error` means that `statement` no longer fits the tables or is gone, and marks the
    /// error as safe to retry. The other statements are probably stale too, and the next attempt prepares them again.
    func note(_ error: any Error, _ statement: PreparedStatement?) -> any Error {
        guard var error = error as? PostgresError, let statement, !statement.isFresh,
            // "cached plan must not change result type", and a statement that was deallocated.
            error.sqlState == "0A000" || error.sqlState == "26000"
        else { return error }
        statements?.removeAll()
        error.isSafeToRetry = true
        return error
    }
}

/// The names of a connection's prepared statements by SQL text. When it is full, the least recently used is dropped.
struct StatementCache {
    private struct Entry {
        var name: String
        var lastUse: Int
    }

    private let capacity: Int
    private var entries: [String: Entry] = [:]
    private var clock = 0
    private var hasLeftovers = false

    init(capacity: Int) {
        self.capacity = capacity
    }

    /// The name of the statement prepared for `sql`.
    mutating func name(for sql: String) -> String? {
        clock += 1
        entries[sql]?.lastUse = clock
        return entries[sql]?.name
    }

    /// A new name. ``insert(_:for:)`` keeps it.
    mutating func makeName() -> String {
        clock += 1
        return "s\(clock)"
    }

    /// Keeps `name` for `sql`, after PostgreSQL has prepared it.
    mutating func insert(_ name: String, for sql: String) {
        entries[sql] = Entry(name: name, lastUse: clock)
    }

    /// Forgets all statements. PostgreSQL still keeps some of them.
    mutating func removeAll() {
        entries = [:]
        hasLeftovers = true
    }

    /// Whether PostgreSQL keeps forgotten statements, which the caller must deallocate. It returns true only once.
    mutating func takeLeftovers() -> Bool {
        defer { hasLeftovers = false }
        return hasLeftovers
    }

    /// Forgets the least recently used statement if the cache is full. Returns its name, which must be deallocated.
    mutating func evict() -> String? {
        guard entries.count >= capacity, let oldest = entries.min(by: { $0.value.lastUse < $1.value.lastUse }) else {
            return nil
        }
        entries[oldest.key] = nil
        return oldest.value.name
    }
}

extension Connection {
    /// A SCRAM verifier (RFC 5803), which `ALTER ROLE … PASSWORD` accepts in place of `password`. So the password is in
    /// no statement, which the server may log. The verifier does not depend on the role.
    ///
    /// - Throws: ``PostgresError`` `.invalidParameter` when libpq makes none.
    package func verifier(ofPassword password: String) throws -> String {
        guard !password.utf8.contains(0), let verifier = PQencryptPasswordConn(handle, password, "", "scram-sha-256")
        else { throw PostgresError(.invalidParameter, "the password cannot be used") }
        defer { PQfreemem(verifier) }
        return String(cString: verifier)
    }
}
