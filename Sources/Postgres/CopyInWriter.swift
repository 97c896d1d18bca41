import CLibPQ

/// Takes the data of one COPY into PostgreSQL and sends it in large pieces.
package final class CopyInWriter {
    private let connection: Connection
    private let sql: String
    private var buffer: [UInt8] = []
    private static let pieceSize = 64 * 1024

    init(_ connection: Connection, sql: String) {
        self.connection = connection
        self.sql = sql
    }

    /// Appends bytes in the format the COPY names.
    package func write(_ bytes: some Collection<UInt8>) throws {
        buffer.append(contentsOf: bytes)
        if buffer.count >= Self.pieceSize {
            try flush()
        }
    }

    /// Appends one row in text format, COPY's default (PostgreSQL, "COPY", "Text Format").
    ///
    /// Throws kind `invalidParameter` for text with NUL.
    package func writeRow<each Value: PostgresEncodable>(_ value: repeat each Value) throws {
        var row: [UInt8] = []
        func append(_ value: some PostgresEncodable) throws {
            if !row.isEmpty {
                row.append(UInt8(ascii: "\t"))
            }
            var text: [UInt8] = []
            guard value.encode(into: &text) else {
                row.append(contentsOf: #"\N"#.utf8)
                return
            }
            guard !text.contains(0) else {
                throw PostgresError(.invalidParameter, "a value of a copied row contains NUL", query: sql)
            }
            for byte in text {
                if let letter = Self.escapes[byte] {
                    row.append(UInt8(ascii: "\\"))
                    row.append(letter)
                } else {
                    row.append(byte)
                }
            }
        }
        repeat try append(each value)
        row.append(UInt8(ascii: "\n"))
        try write(row)
    }

    /// Sends what is gathered.
    func flush() throws {
        if Task.isCancelled {
            throw PostgresError(.cancelled, "cancelled during COPY", query: sql)
        }
        let isSent = buffer.withUnsafeBytes { bytes in
            PQputCopyData(connection.handle, bytes.assumingMemoryBound(to: CChar.self).baseAddress, Int32(bytes.count))
        }
        buffer.removeAll(keepingCapacity: true)
        guard isSent == 1 else { throw connection.failure(query: sql) }
    }

    private static let escapes: [UInt8: UInt8] = [
        UInt8(ascii: "\\"): UInt8(ascii: "\\"), UInt8(ascii: "\t"): UInt8(ascii: "t"),
        UInt8(ascii: "\n"): UInt8(ascii: "n"), UInt8(ascii: "\r"): UInt8(ascii: "r"),
    ]
}
