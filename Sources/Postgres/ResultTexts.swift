/// The rows of one result as the texts that PostgreSQL sent, in the memory of libpq. Nothing is copied or decoded.
///
/// It is made for exports of millions of rows. Other readers take ``Row``. It may outlive its connection. It is
/// unchecked `Sendable` because a `PGresult` is read-only and may be read and freed on any thread (PostgreSQL,
/// "Behavior in Threaded Programs").
package final class ResultTexts: @unchecked Sendable {
    private let result: QueryResult
    /// The number of rows.
    package let count: Int
    private let columns: Int

    init(_ result: consuming QueryResult) {
        count = result.rowCount
        columns = result.columnCount
        self.result = result
    }

    /// The UTF-8 bytes of a field by its row and column, both from 0; `nil` where the field is NULL.
    ///
    /// The bytes are valid as long as this object is. A row or column out of range stops the program.
    package func text(_ row: Int, _ column: Int) -> UnsafeBufferPointer<UInt8>? {
        precondition(row < count && column < columns)
        return result.text(Int32(row), Int32(column))
    }
}

extension Connection {
    /// Executes `query` and returns its rows as texts.
    ///
    /// - Throws: ``PostgresError``.
    package func texts(_ query: Query) throws -> ResultTexts { ResultTexts(try run(query)) }
}
