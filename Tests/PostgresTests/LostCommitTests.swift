import Postgres
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct LostCommitTests {
    /// Inserts one row through a proxy with `fault`: what the call came to, the rows there are, how often the body ran.
    private func insert(
        _ fault: CommitProxy.Fault, thenDown: Bool = false, _ mode: TransactionMode = .readWrite
    ) async throws -> (result: Result<Int, any Error>, rows: Int, runs: Int) {
        let proxy = try CommitProxy(to: testConfiguration())
        return try await withPool { direct in
            try await withTable("id bigint", in: direct) { table in
                let runs = Counter()
                let result = try await withPool(connections: 1, proxy.configuration) { pool in
                    try await pool.withConnection { _ = try $0.execute("SELECT 1") }
                    proxy.arm(fault, thenDown: thenDown)
                    return await Result {
                        try await pool.transaction(mode) { connection in
                            runs.increment()
                            return mode == .readWrite ? try connection.execute("INSERT INTO \(table) VALUES (1)") : 1
                        }
                    }
                }
                proxy.stop()
                let rows = try await direct.withConnection { try $0.query("SELECT FROM \(table)").count }
                return (result, rows, runs.count)
            }
        }
    }

    @Test func aCommitWhoseAnswerIsLostReturnsTheValue() async throws {
        let outcome = try await insert(.answerLost)
        #expect(try outcome.result.get() == 1)
        #expect(outcome.rows == 1)
        #expect(outcome.runs == 1)
    }

    @Test func aCommitThatNeverArrivedRunsAgain() async throws {
        let outcome = try await insert(.requestLost)
        #expect(try outcome.result.get() == 1)
        #expect(outcome.rows == 1)
        #expect(outcome.runs == 2)
    }

    @Test(arguments: [(CommitProxy.Fault.answerLost, 1), (.requestLost, 0)])
    func anOutcomeThatCannotBeLookedUpIsUnknown(_ fault: CommitProxy.Fault, _ rows: Int) async throws {
        let outcome = try await insert(fault, thenDown: true)
        let error = try await postgresError { _ = try outcome.result.get() }
        guard case .commitOutcomeUnknown(let transactionID) = error.kind else {
            Issue.record("\(error.kind)")
            return
        }
        #expect(UInt64(transactionID) != nil)
        #expect(error.isTransient)
        #expect(outcome.rows == rows)
        #expect(outcome.runs == 1)
    }

    /// A crash gives transaction ids out again, so a `committed` after it may be another's.
    @Test func afterACrashACommittedIdProvesNothing() async throws {
        try await withPostgresCluster { cluster in
            let proxy = try CommitProxy(to: cluster.configuration)
            try await withPool(connections: 1, proxy.configuration) { pool in
                try await pool.withConnection { _ = try $0.execute("SELECT 1") }
                proxy.arm(.answerLost, thenDown: false)
                let error = try await postgresError {
                    try await pool.transaction { connection in
                        // As a recovery does it.
                        _ = try connection.query("SELECT pg_stat_reset_shared('bgwriter')")
                    }
                }
                guard case .commitOutcomeUnknown = error.kind else {
                    Issue.record("\(error.kind)")
                    return
                }
            }
            proxy.stop()
        }
    }

    @Test func aReadOnlyTransactionIsJustLost() async throws {
        let outcome = try await insert(.answerLost, .snapshot)
        let error = try await postgresError { _ = try outcome.result.get() }
        #expect(error.kind == .connectionLost)
    }
}
