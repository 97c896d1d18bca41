package import Postgres

/// A database that a test asks single questions.
package protocol Queryable: Sendable {
    var pool: ConnectionPool { get }
}

extension Queryable {
    package func execute(_ query: Query) async throws {
        _ = try await pool.withConnection { try $0.execute(query) }
    }

    /// The first column of the first row, as text.
    package func text(_ query: Query) async throws -> String? {
        try await pool.withConnection { connection in
            try connection.query("SELECT (\(query))::text")[0].decode(0, as: String?.self)
        }
    }

    /// The first column of the first row, a whole number.
    package func number(_ query: Query) async throws -> Int {
        try await pool.withConnection { try $0.query("SELECT (\(query))::bigint")[0].decode(0) }
    }

    /// Asks again until the answer is `expected` or a deadline has passed; returns the last answer.
    package func number(_ query: Query, reaching expected: Int, within deadline: Duration) async throws -> Int {
        let end = ContinuousClock.now + deadline
        while true {
            let number = try await number(query)
            if number == expected || ContinuousClock.now > end { return number }
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}

extension TestDatabase: Queryable {}
