internal import Domain
package import Postgres

/// Compares the database with what was sent and answered.
package struct IntegrityAudit: Sendable {
    /// Events of one INSERT.
    private static let chunk = 5_000

    private let pool: ConnectionPool

    package init(pool: ConnectionPool) {
        self.pool = pool
    }

    /// Puts what was sent beside what was stored, in the schema `drill`. Throws `PostgresError`.
    package func load(_ entries: [LoadRecord.Entry]) async throws {
        try await pool.withConnection { connection in
            try connection.executeScript(
                """
                CREATE SCHEMA drill;
                CREATE TABLE drill.expected (
                    name text PRIMARY KEY, user_id bigint, tokens bigint, requests bigint, reason text, log_id bigint)
                """)
            for start in stride(from: 0, to: entries.count, by: Self.chunk) {
                let part = entries[start..<min(start + Self.chunk, entries.count)]
                let stored = part.map(\.fate.stored)
                try connection.execute(
                    """
                    INSERT INTO drill.expected (name, user_id, tokens, requests, reason, log_id)
                    SELECT * FROM unnest(
                        \(part.map(\.name))::text[], \(stored.map { $0?.userID })::bigint[],
                        \(stored.map { $0?.tokens })::bigint[], \(stored.map { $0?.requests })::bigint[],
                        \(part.map(\.fate.reason?.rawValue))::text[], \(part.map(\.logID))::bigint[])
                    """)
            }
            try connection.executeScript("ANALYZE")
        }
    }

    /// The number of offenders and the first of them, once there are none or `grace`, else the check's own, has passed.
    ///
    /// Throws `PostgresError`.
    package func offenders(
        of check: IntegrityCheck, within grace: Duration? = nil
    ) async throws -> (count: Int, examples: String) {
        let deadline = ContinuousClock.now + (grace ?? check.grace)
        while true {
            let (count, examples) = try await pool.withConnection { connection in
                try connection.query(
                    """
                    SELECT count(*), coalesce(array_to_string((array_agg(o.name))[1:5], ', '), '')
                    FROM (\(check.offenders)) AS o (name)
                    """)[0].decode(Int.self, String.self)
            }
            if count == 0 || ContinuousClock.now >= deadline { return (count, examples) }
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// A whole number that the database states. Throws `PostgresError`.
    func number(_ query: Query) async throws -> Int {
        try await pool.withConnection { try $0.query(query)[0].decode(0, as: Int.self) }
    }
}

extension LoadEvent.Fate {
    fileprivate var stored: (userID: Int64, tokens: Int64, requests: Int64)? {
        if case .stored(let userID, let tokens, let requests) = self { (userID, tokens, requests) } else { nil }
    }

    fileprivate var reason: QuarantineReason? {
        if case .quarantined(let reason) = self { reason } else { nil }
    }
}
