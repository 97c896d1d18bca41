import CLibPQ

/// A `PGresult`, cleared when it goes out of scope; it never leaves the connection's thread.
struct QueryResult: ~Copyable {
    private let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
    }

    deinit {
        PQclear(pointer)
    }

    var status: ExecStatusType { PQresultStatus(pointer) }
    var rowCount: Int { Int(PQntuples(pointer)) }
    /// What PostgreSQL says it did, such as `COMMIT` or `INSERT 0 3`.
    var commandTag: String { String(cString: PQcmdStatus(pointer)) }
    /// The rows inserted, updated, deleted, selected or copied; 0 for other statements.
    var affectedRows: Int { Int(String(cString: PQcmdTuples(pointer))) ?? 0 }

    /// The names of the columns.
    var columns: [String] {
        (0..<PQnfields(pointer)).map { column in PQfname(pointer, column).map { String(cString: $0) } ?? "" }
    }

    /// Copies all rows; `columns` are this result's, given so that a stream of results shares them.
    func rows(columns: [String]) -> [Row] {
        var bytes: [UInt8] = []
        var cells: [Range<Int>?] = []
        cells.reserveCapacity(rowCount * columns.count)
        for row in 0..<Int32(rowCount) {
            for column in 0..<Int32(columns.count) {
                guard PQgetisnull(pointer, row, column) == 0, let value = PQgetvalue(pointer, row, column) else {
                    cells.append(nil)
                    continue
                }
                let start = bytes.count
                let length = Int(PQgetlength(pointer, row, column))
                bytes.append(contentsOf: UnsafeRawBufferPointer(start: value, count: length))
                cells.append(start..<bytes.count)
            }
        }
        let table = ResultTable(columns: columns, bytes: bytes, cells: cells)
        return (0..<rowCount).map { Row(table: table, index: $0) }
    }

    /// A field of the error report by its letter (PostgreSQL, "Error and Notice Message Fields").
    func diagnostic(_ field: Unicode.Scalar) -> String? {
        PQresultErrorField(pointer, Int32(field.value)).map { String(cString: $0) }
    }

    /// The error this result reports, as `kind`.
    func error(_ kind: PostgresError.Kind, query: String?) -> PostgresError {
        var error = PostgresError(kind, diagnostic("M") ?? "no message", query: query)
        error.sqlState = diagnostic("C")
        error.constraint = diagnostic("n")
        error.table = diagnostic("t")
        error.column = diagnostic("c")
        // The message is in the server's language; the function that raises it is not.
        error.isRowSecurity = error.sqlState == "42501" && diagnostic("R") == "check_enable_rls"
        return error
    }
}
