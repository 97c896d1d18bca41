import CLibPQ

extension Connection {
    /// Runs `sql`, a `COPY … FROM STDIN`, with the rows that `body` writes. Returns their number.
    ///
    /// Nothing is stored when `body` throws.
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
    @discardableResult
    package func copyIn(_ sql: String, _ body: (CopyInWriter) throws -> Void) throws -> Int {
        try startCopy(sql, PGRES_COPY_IN)
        var failure: (any Error)?
        do {
            let writer = CopyInWriter(self, sql: sql)
            try body(writer)
            try writer.flush()
        } catch {
            failure = error
        }
        PQputCopyEnd(handle, failure == nil ? nil : "given up by the client")
        let count = Result { try finishCopy(sql) }
        if let failure {
            throw failure
        }
        return try count.get()
    }

    /// Runs `sql`, a `COPY … TO STDOUT`, and gives each row's bytes to `body`.
    ///
    /// When `body` throws, the rest is read and dropped, and the connection stays usable.
    ///
    /// - Throws: ``PostgresError``; what `body` throws.
    package func copyOut(_ sql: String, _ body: ([UInt8]) throws -> Void) throws {
        try startCopy(sql, PGRES_COPY_OUT)
        var failure: (any Error)?
        var buffer: UnsafeMutablePointer<CChar>?
        var length = PQgetCopyData(handle, &buffer, 0)
        while length > 0, let chunk = buffer {
            defer {
                PQfreemem(chunk)
                buffer = nil
                length = PQgetCopyData(handle, &buffer, 0)
            }
            guard failure == nil else { continue }
            do {
                try body(Array(UnsafeRawBufferPointer(start: chunk, count: Int(length))))
            } catch {
                failure = error
            }
        }
        let end = Result { try finishCopy(sql) }
        if let failure {
            throw failure
        }
        _ = try end.get()
    }

    private func startCopy(_ sql: String, _ status: ExecStatusType) throws {
        try requireReady()
        try Query(unsafeSQL: sql).validate(sql)
        _ = try check(PQexec(handle, sql), query: sql, accepting: [status])
    }

    /// Reads the results that end a COPY. Returns the number of copied rows.
    private func finishCopy(_ sql: String) throws -> Int {
        var count = 0
        var failure: (any Error)?
        while let pointer = PQgetResult(handle) {
            do {
                count = try check(pointer, query: sql).affectedRows
            } catch {
                failure = failure ?? error
                guard !isInCopy else { break }
            }
        }
        if let failure {
            throw failure
        }
        return count
    }
}

/// Collects the data of one COPY into PostgreSQL and sends it in large chunks.
package final class CopyInWriter {
    private let connection: Connection
    private let sql: String
    private var buffer: [UInt8] = []
    private static let pieceSize = 64 * 1024

    init(_ connection: Connection, sql: String) {
        self.connection = connection
        self.sql = sql
    }

    /// Appends bytes in the format that the COPY names.
    ///
    /// - Throws: ``PostgresError``.
    package func write(_ bytes: some Collection<UInt8>) throws {
        buffer.append(contentsOf: bytes)
        if buffer.count >= Self.pieceSize {
            try flush()
        }
    }

    /// Appends one row in text format, COPY's default (PostgreSQL, "COPY", "Text Format").
    ///
    /// - Throws: ``PostgresError``, `.invalidParameter` for text with NUL.
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

    /// Sends the collected data.
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
