import CLibPQ

/// A `PGresult`. It is freed when it goes out of scope.
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
    var columnCount: Int { Int(PQnfields(pointer)) }
    /// PostgreSQL's command tag, such as `COMMIT` or `INSERT 0 3`.
    var commandTag: String { String(cString: PQcmdStatus(pointer)) }
    /// The rows inserted, updated, deleted, selected or copied; 0 for other statements.
    var affectedRows: Int { Int(String(cString: PQcmdTuples(pointer))) ?? 0 }

    /// The names of the columns.
    var columns: [String] {
        (0..<Int32(columnCount)).map { column in PQfname(pointer, column).map { String(cString: $0) } ?? "" }
    }

    /// The text of a field, in the result's own memory; `nil` where it is NULL.
    func text(_ row: Int32, _ column: Int32) -> UnsafeBufferPointer<UInt8>? {
        guard PQgetisnull(pointer, row, column) == 0, let value = PQgetvalue(pointer, row, column) else { return nil }
        let bytes = UnsafeRawPointer(value).assumingMemoryBound(to: UInt8.self)
        return UnsafeBufferPointer(start: bytes, count: Int(PQgetlength(pointer, row, column)))
    }

    /// Copies all rows. `columns` are the names of this result's columns, shared by all results of a stream.
    func rows(columns: [String]) -> [Row] {
        var bytes: [UInt8] = []
        var cells: [Range<Int>?] = []
        cells.reserveCapacity(rowCount * columns.count)
        for row in 0..<Int32(rowCount) {
            for column in 0..<Int32(columns.count) {
                guard let text = text(row, column) else {
                    cells.append(nil)
                    continue
                }
                let start = bytes.count
                bytes.append(contentsOf: text)
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

    /// The error of this result, as `kind`.
    func error(_ kind: PostgresError.Kind, query: String?) -> PostgresError {
        var error = PostgresError(kind, diagnostic("M") ?? "no message", query: query)
        error.sqlState = diagnostic("C")
        error.constraint = diagnostic("n")
        error.table = diagnostic("t")
        error.column = diagnostic("c")
        // The message depends on the server's language; the name of the C function that raises it does not.
        error.isRowSecurity = error.sqlState == "42501" && diagnostic("R") == "check_enable_rls"
        return error
    }
}

/// The rows of one result in two allocations: the bytes of all values, and the end of each value.
final class ResultTable: Sendable {
    let columns: [String]
    private let bytes: [UInt8]
    private let cells: [Range<Int>?]

    init(columns: [String], bytes: [UInt8], cells: [Range<Int>?]) {
        self.columns = columns
        self.bytes = bytes
        self.cells = cells
    }

    /// The text of one field; `nil` is NULL.
    subscript(row: Int, column: Int) -> ArraySlice<UInt8>? {
        cells[row * columns.count + column].map { bytes[$0] }
    }
}

/// One row of a result, copied from libpq. It may outlive its connection.
package struct Row: Sendable {
    private let table: ResultTable
    private let index: Int

    init(table: ResultTable, index: Int) {
        self.table = table
        self.index = index
    }

    /// The text of a column by its position from 0, which must exist; `nil` for NULL.
    package func text(_ column: Int) -> ArraySlice<UInt8>? {
        precondition(table.columns.indices.contains(column))
        return table[index, column]
    }

    /// The value of a column by its position from 0.
    ///
    /// - Throws: ``PostgresError`` `.decoding` when there is no such column, or it holds NULL or another type.
    package func decode<T: PostgresDecodable>(_ column: Int, as type: T.Type = T.self) throws -> T {
        guard table.columns.indices.contains(column) else {
            throw PostgresError(.decoding, "no column \(column) among \(table.columns.count)")
        }
        guard let value = T(postgresText: table[index, column]) else {
            throw PostgresError(.decoding, "column \"\(table.columns[column])\" is not a readable \(T.self)")
        }
        return value
    }

    /// The value of the first column called `column`.
    ///
    /// - Throws: ``PostgresError`` `.decoding` when there is no such column, or it holds NULL or another type.
    package func decode<T: PostgresDecodable>(_ column: String, as type: T.Type = T.self) throws -> T {
        guard let position = table.columns.firstIndex(of: column) else {
            throw PostgresError(.decoding, "no column \"\(column)\"")
        }
        return try decode(position)
    }

    /// The values of the first columns, in order.
    ///
    /// - Throws: ``PostgresError`` `.decoding` when a column is missing, or holds NULL or another type.
    package func decode<each T: PostgresDecodable>(_ types: repeat (each T).Type) throws -> (repeat each T) {
        var column = 0
        func next<U: PostgresDecodable>(_ type: U.Type) throws -> U {
            defer { column += 1 }
            return try decode(column, as: type)
        }
        return (repeat try next((each T).self))
    }
}

extension Row: CustomStringConvertible, CustomReflectable {
    /// The names of the columns, without values.
    package var description: String { "Row(\(table.columns.joined(separator: ", ")))" }

    package var customMirror: Mirror { Mirror(self, children: []) }
}
