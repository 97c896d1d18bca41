import CLibPQ

extension Connection {
    /// Runs `sql`, a `COPY … FROM STDIN`, on what `body` writes; how many rows were copied.
    ///
    /// Nothing is stored when `body` throws.
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

    /// Reads the results that end a COPY; the number of rows copied.
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
