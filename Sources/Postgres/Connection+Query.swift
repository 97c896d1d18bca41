import CLibPQ

extension Connection {
    /// The rows that `query` returns.
    package func query(_ query: Query) throws -> [Row] {
        let result = try run(query)
        return result.rows(columns: result.columns)
    }

    /// Executes `query`; how many rows it inserted, updated, deleted or selected.
    @discardableResult
    package func execute(_ query: Query) throws -> Int {
        try run(query).affectedRows
    }

    /// Executes SQL text of one or several statements. Unless the text says otherwise they are one transaction.
    package func executeScript(_ sql: String) throws {
        try requireReady()
        try Query(unsafeSQL: sql).validate(sql)
        _ = try executeDirectly(sql)
    }

    /// Gives the rows of `query` to `body` one by one, without holding more than one in memory.
    ///
    /// When `body` throws, the rest is read and dropped, and the connection stays usable.
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
                // A COPY would report itself for ever; the connection is of no more use.
                guard !isInCopy else { break }
            }
        }
        if let failure {
            throw failure
        }
    }

    private func run(_ query: Query) throws -> QueryResult {
        let sql = try prepareToSend(query)
        let wasIdle = isIdle
        let statement = try preparedStatement(for: sql)
        do {
            return try check(execute(query, sql, as: statement?.name), query: sql)
        } catch {
            let error = note(error, statement)
            // Outside a transaction a stale statement is our own business: it had no effect, and is prepared anew.
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
