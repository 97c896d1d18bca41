import Dispatch
import Postgres
import Testing

@Suite(.timeLimit(.minutes(30))) struct TransactionTests {
    private struct Refusal: Error {}

    private func count(of table: Query, in pool: ConnectionPool) async throws -> Int {
        try await pool.withConnection { try $0.query("SELECT FROM \(table)").count }
    }

    @Test func aThrowingBodyStoresNothing() async throws {
        try await withPool { pool in
            try await withTable("id bigint", in: pool) { table in
                await #expect(throws: Refusal.self) {
                    try await pool.transaction { connection in
                        try connection.execute("INSERT INTO \(table) VALUES (1)")
                        throw Refusal()
                    }
                }
                #expect(try await count(of: table, in: pool) == 0)
                try await pool.transaction { _ = try $0.execute("INSERT INTO \(table) VALUES (1)") }
                #expect(try await count(of: table, in: pool) == 1)
            }
        }
    }

    @Test func aSwallowedFailureTurnsCommitIntoAnError() async throws {
        try await withPool { pool in
            try await withTable("id bigint", in: pool) { table in
                let error = try await postgresError {
                    try await pool.transaction { connection in
                        try connection.execute("INSERT INTO \(table) VALUES (1)")
                        _ = try? connection.execute("SELECT 1 / 0")
                    }
                }
                #expect(error.kind == .commitBecameRollback)
                #expect(try await count(of: table, in: pool) == 0)
            }
        }
    }

    @Test func aDeferredConstraintFailsTheCommit() async throws {
        try await withPool(connections: 1) { pool in
            try await withTable("id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED", in: pool) { table in
                let error = try await postgresError {
                    try await pool.transaction { _ = try $0.execute("INSERT INTO \(table) VALUES (1), (1)") }
                }
                #expect(error.sqlState == "23505")
                #expect(try await count(of: table, in: pool) == 0)
            }
        }
    }

    @Test func aSavepointUndoesOnlyItsOwn() async throws {
        try await withPool { pool in
            try await withTable("id bigint", in: pool) { table in
                try await pool.transaction { connection in
                    try connection.execute("INSERT INTO \(table) VALUES (1)")
                    #expect(throws: PostgresError.self) {
                        try connection.savepoint { inner in
                            try inner.execute("INSERT INTO \(table) VALUES (2)")
                            try inner.savepoint { _ = try $0.execute("INSERT INTO \(table) VALUES (3)") }
                            try inner.execute("SELECT 1 / 0")
                        }
                    }
                    try connection.savepoint { _ = try $0.execute("INSERT INTO \(table) VALUES (4)") }
                }
                let rows = try await pool.withConnection { try $0.query("SELECT id FROM \(table) ORDER BY id") }
                #expect(try rows.map { try $0.decode(0) } == [1, 4])
            }
        }
    }

    @Test func theFirstErrorSurvivesAFailingRollback() async throws {
        try await withPool { pool in
            let killed = try await postgresError {
                try await pool.transaction { _ = try $0.execute("SELECT pg_terminate_backend(pg_backend_pid())") }
            }
            #expect(killed.kind == .connectionLost)
            await #expect(throws: Refusal.self) {
                try await pool.transaction { connection in
                    _ = try? connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
                    throw Refusal()
                }
            }
            #expect(try await pool.transaction { try $0.execute("SELECT 1") } == 1)
        }
    }

    @Test func aTransactionInATransactionIsRefused() async throws {
        try await withPool { pool in
            let error = try await postgresError {
                try await pool.transaction { try $0.transaction { _ in } }
            }
            #expect(error.kind == .misuse)
        }
    }

    @Test func aBodyThatEndsItsTransactionIsRefused() async throws {
        try await withPool { pool in
            let error = try await postgresError { try await pool.transaction { try $0.executeScript("ROLLBACK") } }
            #expect(error.kind == .misuse)
        }
    }

    @Test func aSnapshotOnlyReadsAndSeesOneState() async throws {
        try await withPool { pool in
            try await withTable("id bigint", in: pool) { table in
                let counts = try await withPool(connections: 1) { other in
                    try await pool.transaction(.snapshot) { connection in
                        var counts = [try connection.query("SELECT FROM \(table)").count]
                        let error = #expect(throws: PostgresError.self) {
                            try connection.savepoint { _ = try $0.execute("INSERT INTO \(table) VALUES (1)") }
                        }
                        #expect(error?.sqlState == "25006")
                        let inserted = blockUntilDone {
                            try await other.withConnection { try $0.execute("INSERT INTO \(table) VALUES (1)") }
                        }
                        #expect(try inserted.get() == 1)
                        counts.append(try connection.query("SELECT FROM \(table)").count)
                        return counts
                    }
                }
                #expect(counts == [0, 0])
                #expect(try await count(of: table, in: pool) == 1)
            }
        }
    }

    @Test func theVictimOfADeadlockIsRunAgain() async throws {
        try await withPool { pool in
            try await withTable("id bigint PRIMARY KEY, hits bigint", in: pool) { table in
                try await pool.withConnection { _ = try $0.execute("INSERT INTO \(table) VALUES (1, 0), (2, 0)") }
                let attempts = Counter()
                let haveLocked = [DispatchSemaphore(value: 0), DispatchSemaphore(value: 0)]
                @Sendable func update(_ mine: Int, then other: Int) async throws {
                    let isFirst = Counter()
                    try await pool.transaction { connection in
                        attempts.increment()
                        try connection.execute("UPDATE \(table) SET hits = hits + 1 WHERE id = \(mine)")
                        if isFirst.increment() == 1 {
                            haveLocked[mine - 1].signal()
                            haveLocked[other - 1].wait()
                        }
                        try connection.execute("UPDATE \(table) SET hits = hits + 1 WHERE id = \(other)")
                    }
                }
                async let first: Void = update(1, then: 2)
                async let second: Void = update(2, then: 1)
                _ = try await (first, second)
                let rows = try await pool.withConnection { try $0.query("SELECT hits FROM \(table)") }
                #expect(try rows.map { try $0.decode(0) } == [2, 2])
                // The victim may be quick enough to collide once more.
                #expect(attempts.count >= 3)
            }
        }
    }

    @Test func aSerializationFailureIsRunAgain() async throws {
        try await withPool { pool in
            let attempts = Counter()
            let attempt = try await pool.transaction { connection in
                let attempt = attempts.increment()
                if attempt < 3 {
                    try connection.executeScript("DO $$ BEGIN RAISE 'again' USING ERRCODE = '40001'; END $$")
                }
                return attempt
            }
            #expect(attempt == 3)
            let error = try await postgresError {
                try await pool.transaction { connection in
                    attempts.increment()
                    try connection.executeScript("DO $$ BEGIN RAISE 'again' USING ERRCODE = '40001'; END $$")
                }
            }
            #expect(error.sqlState == "40001")
            #expect(attempts.count == 3 + 5)
        }
    }
}
