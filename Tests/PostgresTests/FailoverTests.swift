import Glibc
import Postgres
import TestSupport
import Testing

/// A database that takes no writes for a while, or is another server afterwards. The pool follows without a restart.
@Suite(.timeLimit(.minutes(30))) struct FailoverTests {
    private static func write(_ number: Int, _ pool: ConnectionPool) async throws {
        try await pool.transaction { _ = try $0.execute("INSERT INTO public.numbers VALUES (\(number))") }
    }

    private static func makeTable(_ cluster: PostgresCluster) async throws {
        try await withPool(connections: 1, cluster.configuration) { pool in
            try await pool.withConnection { try $0.executeScript("CREATE TABLE public.numbers (x bigint)") }
        }
    }

    /// Holds `count` sessions at once, so that the pool keeps as many.
    private static func open(_ count: Int, _ pool: ConnectionPool) async throws {
        let gate = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<count {
                group.addTask {
                    try await pool.withConnection { _ in
                        gate.increment()
                        while gate.count < count { sched_yield() }
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func sessionsWithAReadOnlyServerAreGivenUp() async throws {
        try await withPostgresCluster { cluster in
            try await Self.makeTable(cluster)
            try await withPool(connections: 8, cluster.configuration.writing) { pool in
                try await Self.open(8, pool)
                try await cluster.set("default_transaction_read_only = on")
                // PostgreSQL reports the change to a session with the answer to its next statement.
                let refusal = try await postgresError {
                    while true { try await Self.write(1, pool) }
                }
                #expect(refusal.isTransient)
                #expect(try await postgresError { try await Self.write(2, pool) }.kind == .connectFailed)
                try await cluster.set("default_transaction_read_only = off")
                try await eventually("the server takes writes") { (try? await Self.write(3, pool)) != nil }
                for number in 10..<30 { try await Self.write(number, pool) }
            }
        }
    }

    /// One address that leads to a standby for a while, by DNS or a proxy. It is read, and left as soon as possible.
    @Test func aSessionWithAStandbyServesOnce() async throws {
        try await withPostgresCluster { cluster in
            try await Self.makeTable(cluster)
            try await cluster.set("default_transaction_read_only = on")
            try await withPool(connections: 2, cluster.configuration) { pool in
                let read = { @Sendable in
                    try await pool.withConnection { connection in
                        (
                            connection.backendProcessID,
                            try connection.query("SHOW transaction_read_only")[0].decode(0, as: String.self)
                        )
                    }
                }
                try await eventually("new sessions are read-only") { try await read().1 == "on" }
                let (first, second) = (try await read().0, try await read().0)
                #expect(first != second)
                try await cluster.set("default_transaction_read_only = off")
                try await eventually("the server takes writes") { try await read().1 == "off" }
                for number in 0..<5 { try await Self.write(number, pool) }
                let (third, fourth) = (try await read().0, try await read().0)
                #expect(third == fourth)
            }
        }
    }

    @Test func thePoolFollowsTheStandbyThatTakesOver() async throws {
        try await withPostgresCluster { primary in
            try await Self.makeTable(primary)
            try await primary.withSynchronousStandby { standby in
                // The standby comes first and is passed by, as long as it takes no writes.
                var both = standby.configuration.writing
                both.otherAddresses = [primary.address]
                try await withPool(connections: 8, both) { pool in
                    try await Self.open(8, pool)
                    for number in 0..<10 { try await Self.write(number, pool) }
                    try await primary.stop(.immediate)
                    let refusal = try await postgresError {
                        while true { try await Self.write(10, pool) }
                    }
                    #expect(refusal.isTransient)
                    try await standby.promote()
                    try await primary.follow(standby)
                    for number in 11..<20 { try await Self.write(number, pool) }
                    let count = try await pool.withConnection {
                        try $0.query("SELECT count(*) FROM public.numbers")[0].decode(0, as: Int.self)
                    }
                    #expect(count == 19)
                }
            }
        }
    }

    /// A commit that waits for a standby can be cut short by a cancel request. PostgreSQL answers it with success and a
    /// warning.
    @Test func aCommitThatNoStandbyHasIsNotTakenForOne() async throws {
        try await withPostgresCluster { cluster in
            try await Self.makeTable(cluster)
            try await cluster.set("synchronous_standby_names = 'nobody'")
            try await withPool(cluster.configuration.writing) { pool in
                async let refusal = postgresError { try await Self.write(1, pool) }
                try await withPool(cluster.configuration) { others in
                    try await eventually("the commit waits for a standby, and is cancelled") {
                        try await others.withConnection { connection in
                            try connection.query(
                                """
                                SELECT FROM pg_stat_activity a
                                WHERE CASE WHEN a.wait_event = 'SyncRep' THEN pg_cancel_backend(a.pid) END
                                """
                            ).count > 0
                        }
                    }
                }
                let error = try await refusal
                #expect(error.kind == .replicationUnknown && error.isTransient && !error.isSafeToRetry)
            }
        }
    }
}
