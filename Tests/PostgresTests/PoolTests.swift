import Dispatch
import Logging
import Postgres
import ServiceLifecycle
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct PoolTests {
    @Test func anExhaustedPoolFailsAtTheDeadline() async throws {
        try await withPool(connections: 1, leaseDeadline: .milliseconds(50)) { pool in
            let isHeld = AsyncStream.makeStream(of: Void.self)
            let mayGo = DispatchSemaphore(value: 0)
            async let holder: Void = pool.withConnection { _ in
                isHeld.continuation.finish()
                mayGo.wait()
            }
            for await _ in isHeld.stream {}
            let start = ContinuousClock.now
            let error = try await postgresError { try await pool.withConnection { _ in } }
            #expect(error.kind == .leaseTimeout)
            #expect(error.isTransient)
            #expect(ContinuousClock.now - start >= .milliseconds(50))
            mayGo.signal()
            try await holder
            try await pool.withConnection { _ in }
        }
    }

    @Test func aCancelledWaiterLeavesTheQueue() async throws {
        try await withPool(connections: 1) { pool in
            let isHeld = AsyncStream.makeStream(of: Void.self)
            let mayGo = DispatchSemaphore(value: 0)
            async let holder: Void = pool.withConnection { _ in
                isHeld.continuation.finish()
                mayGo.wait()
            }
            for await _ in isHeld.stream {}
            let waiter = Task { try await pool.withConnection { _ in } }
            waiter.cancel()
            let error = try await postgresError { try await waiter.value }
            #expect(error.kind == .cancelled)
            mayGo.signal()
            try await holder
        }
    }

    @Test func thePoolNeverHoldsMoreThanItsLimit() async throws {
        let configuration = try testConfiguration()
        let most = try await withPool(connections: 3, configuration) { pool in
            try await withThrowingTaskGroup { group in
                for _ in 0..<60 {
                    group.addTask {
                        try await pool.withConnection { connection in
                            try connection.query(
                                """
                                SELECT count(*) FROM pg_stat_activity
                                WHERE application_name = current_setting('application_name')
                                """
                            ).first?.decode(0, as: Int.self) ?? 0
                        }
                    }
                }
                return try await group.reduce(0) { max($0, $1) }
            }
        }
        #expect((1...3).contains(most))
    }

    @Test func aBackendKilledWhileUnusedIsReplacedUnnoticed() async throws {
        try await withPool { admin in
            try await withPool(connections: 1) { pool in
                let first = try await pool.withConnection { $0.backendProcessID }
                let isGone = try await admin.withConnection {
                    try $0.query("SELECT pg_terminate_backend(\(first), 10000)").first?.decode(0, as: Bool.self)
                }
                #expect(isGone == true)
                let second = try await pool.withConnection { connection in
                    _ = try connection.execute("SELECT 1")
                    return connection.backendProcessID
                }
                #expect(first != second)
            }
        }
    }

    @Test func aBackendKilledAtWorkIsOneErrorAndThenReplaced() async throws {
        try await withPool(connections: 1) { pool in
            let error = try await postgresError {
                try await pool.withConnection { _ = try $0.execute("SELECT pg_terminate_backend(pg_backend_pid())") }
            }
            #expect(error.kind == .connectionLost)
            #expect(error.isTransient)
            #expect(try await pool.withConnection { try $0.execute("SELECT 1") } == 1)
        }
    }

    @Test func whenPostgreSQLIsDownAllFailAtOnceAndRecoverByThemselves() async throws {
        let proxy = try CommitProxy(to: testConfiguration())
        try await withPool(connections: 2, proxy.configuration) { pool in
            proxy.stop()
            await withTaskGroup { group in
                for _ in 0..<50 {
                    group.addTask {
                        let error = try? await postgresError { try await pool.withConnection { _ in } }
                        #expect(error?.kind == .connectFailed)
                    }
                }
            }
            let error = try await postgresError { try await pool.transaction { _ in } }
            #expect(error.kind == .connectFailed)
            try proxy.start()
            #expect(try await pool.withConnection { try $0.execute("SELECT 1") } == 1)
        }
        proxy.stop()
    }

    @Test func anOpenTransactionIsRefusedAndItsConnectionDiscarded() async throws {
        try await withPool(connections: 1) { pool in
            try await withTable("id bigint", in: pool) { table in
                let error = try await postgresError {
                    try await pool.withConnection { try $0.executeScript("BEGIN; INSERT INTO \(table) VALUES (1)") }
                }
                #expect(error.kind == .misuse)
                let count = try await pool.withConnection { try $0.query("SELECT FROM \(table)").count }
                #expect(count == 0)
            }
        }
    }

    @Test func aClosedPoolRefusesAndLeavesNoSession() async throws {
        let configuration = try testConfiguration()
        let pool = ConnectionPool(configuration, logger: Logger(label: "tests"))
        let process = try await pool.withConnection { $0.backendProcessID }
        await pool.close()
        await pool.close()
        let error = try await postgresError { try await pool.withConnection { _ in } }
        #expect(error.kind == .poolClosed)
        try await withPool { admin in
            try await eventually("the session ends") {
                try await admin.withConnection {
                    try $0.query("SELECT FROM pg_stat_activity WHERE pid = \(process)").isEmpty
                }
            }
        }
    }

    @Test func theServiceClosesThePoolAtShutdown() async throws {
        let pool = ConnectionPool(try testConfiguration(), logger: Logger(label: "tests"))
        let group = ServiceGroup(services: [pool], logger: Logger(label: "tests"))
        async let running: Void = group.run()
        #expect(try await pool.withConnection { try $0.execute("SELECT 1") } == 1)
        await group.triggerGracefulShutdown()
        try await running
        let error = try await postgresError { try await pool.withConnection { _ in } }
        #expect(error.kind == .poolClosed)
    }

    @Test func anUnreachableServerIsAConnectFailureWithItsReason() async throws {
        var configuration = try testConfiguration()
        (configuration.host, configuration.port) = ("127.0.0.1", 1)
        configuration.password = "hunter2"
        let error = try await withPool(configuration) { pool in
            try await postgresError { try await pool.withConnection { _ in } }
        }
        #expect(error.kind == .connectFailed)
        #expect(String(reflecting: error).contains("127.0.0.1"))
        #expect(!String(reflecting: error).contains("hunter2"))
    }

    @Test func theTimeoutsOfTheServerAreServerErrors() async throws {
        var configuration = try testConfiguration()
        configuration.statementTimeout = .milliseconds(20)
        let error = try await withPool(configuration) { pool in
            try await postgresError { try await pool.withConnection { _ = try $0.execute("SELECT pg_sleep(60)") } }
        }
        #expect(error.kind == .server)
        #expect(error.sqlState == "57014")
    }
}
