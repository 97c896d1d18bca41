import Postgres
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct CancellationTests {
    /// What one unit of the storm came to.
    private struct Outcome: Sendable {
        var unit: Int
        var isTransaction: Bool
        var wasCancelled: Bool
        var result: Result<Int, any Error>
    }

    @Test func aCancelledStatementEndsAndTheConnectionGoesOn() async throws {
        let configuration = try testConfiguration()
        try await withPool { admin in
            try await withPool(connections: 1, configuration) { pool in
                let task = Task { try await pool.withConnection { _ = try $0.execute("SELECT pg_sleep(600)") } }
                try await eventually("the statement runs") {
                    try await admin.withConnection {
                        try !$0.query(
                            """
                            SELECT FROM pg_stat_activity
                            WHERE application_name = \(configuration.applicationName) AND wait_event = 'PgSleep'
                            """
                        ).isEmpty
                    }
                }
                task.cancel()
                let error = try await postgresError { try await task.value }
                #expect(error.kind == .cancelled)
                #expect(try await pool.withConnection { try $0.execute("SELECT 1") } == 1)
            }
        }
    }

    @Test func aStormOfCancellationsHitsNobodyElse() async throws {
        let configuration = try testConfiguration()
        try await withPool { admin in
            try await withTable("unit bigint", in: admin) { table in
                let outcomes = try await withPool(connections: 8, configuration) { pool in
                    let outcomes = await storm(on: pool, table)
                    let open = try await admin.withConnection {
                        try $0.query(
                            """
                            SELECT FROM pg_stat_activity
                            WHERE application_name = \(configuration.applicationName)
                                AND state LIKE 'idle in transaction%'
                            """
                        ).count
                    }
                    #expect(open == 0)
                    return outcomes
                }
                let stored = try await admin.withConnection { connection in
                    try connection.query("SELECT unit, count(*) FROM \(table) GROUP BY unit").map {
                        try $0.decode(Int.self, Int.self)
                    }
                }
                check(outcomes, against: Dictionary(uniqueKeysWithValues: stored))
            }
        }
    }

    private func check(_ outcomes: [Outcome], against stored: [Int: Int]) {
        #expect(outcomes.count == 64 * 60)
        #expect(outcomes.contains { $0.wasCancelled && $0.result.isFailure })
        for outcome in outcomes {
            switch outcome.result {
            case .success(let value): #expect(value == outcome.unit + 1)
            case .failure(let error):
                #expect(outcome.wasCancelled, "\(String(reflecting: error))")
                #expect((error as? PostgresError)?.kind == .cancelled, "\(String(reflecting: error))")
            }
            let expected = outcome.isTransaction && !outcome.result.isFailure ? 2 : 0
            #expect(stored[outcome.unit, default: 0] == expected)
        }
    }

    private func storm(on pool: ConnectionPool, _ table: Query) async -> [Outcome] {
        await withTaskGroup { group in
            for client in 0..<64 {
                group.addTask {
                    var outcomes: [Outcome] = []
                    for step in 0..<60 {
                        outcomes.append(await self.unit(client * 60 + step, on: pool, table))
                    }
                    return outcomes
                }
            }
            return await group.reduce(into: []) { $0 += $1 }
        }
    }

    private func unit(_ unit: Int, on pool: ConnectionPool, _ table: Query) async -> Outcome {
        let isTransaction = unit.isMultiple(of: 3)
        let hasBegun = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            defer { hasBegun.continuation.finish() }
            if isTransaction {
                return try await pool.transaction { connection in
                    hasBegun.continuation.finish()
                    try connection.execute("INSERT INTO \(table) VALUES (\(unit))")
                    try connection.execute("INSERT INTO \(table) SELECT \(unit) FROM pg_sleep(0.001)")
                    return unit + 1
                }
            }
            return try await pool.withConnection { connection in
                hasBegun.continuation.finish()
                let rows = try connection.query("SELECT \(unit)::int8 + 1 FROM pg_sleep(0.001)")
                return try rows.first?.decode(0) ?? 0
            }
        }
        let wasCancelled = Int.random(in: 0..<100) < 40
        if wasCancelled {
            // Most while the unit is at work, some while it still waits for a connection.
            if Int.random(in: 0..<100) < 80 {
                for await _ in hasBegun.stream {}
            }
            for _ in 0..<Int.random(in: 0..<400) {
                await Task.yield()
            }
            task.cancel()
        }
        let result = await Result { try await task.value }
        return Outcome(unit: unit, isTransaction: isTransaction, wasCancelled: wasCancelled, result: result)
    }
}

extension Result {
    fileprivate var isFailure: Bool {
        if case .failure = self { true } else { false }
    }
}
