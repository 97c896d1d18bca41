/// One row of a result, copied out of libpq; it may outlive its connection.
package struct Row: Sendable {
    private let table: ResultTable
    private let index: Int

    init(table: ResultTable, index: Int) {
        self.table = table
        self.index = index
    }

    /// The text of a column by its position from 0, which the result must have; `nil` where it is NULL.
    package func text(_ column: Int) -> ArraySlice<UInt8>? {
        precondition(table.columns.indices.contains(column))
        return table[index, column]
    }

    /// The value of a column by its position from 0.
    ///
    /// Throws `PostgresError` of kind `decoding` if there is no such column, or it holds NULL or another type.
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
    /// Throws `PostgresError` of kind `decoding` if there is no such column, or it holds NULL or another type.
    package func decode<T: PostgresDecodable>(_ column: String, as type: T.Type = T.self) throws -> T {
        guard let position = table.columns.firstIndex(of: column) else {
            throw PostgresError(.decoding, "no column \"\(column)\"")
        }
        return try decode(position)
    }

    /// The values of the first columns, in order.
    ///
    /// Throws `PostgresError` of kind `decoding` if a column is missing, or holds NULL or another type.
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
    /// The names of the columns; never the values.
    package var description: String { "Row(\(table.columns.joined(separator: ", ")))" }

    package var customMirror: Mirror { Mirror(self, children: []) }
}
