import Glibc
import Postgres
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct CrashTests {
    /// A crash forgets the ids of transactions that were never flushed and gives them to others, whose `committed` is
    /// not ours.
    @Test func anotherTransactionsCommitIsNeverTakenForOurs() async throws {
        try await withPostgresCluster { cluster in
            try await withPool(connections: 3, cluster.configuration) { pool in
                try await pool.withConnection { connection in
                    try connection.executeScript(
                        "CREATE TABLE public.ours (x bigint); CREATE TABLE public.others (x bigint); CHECKPOINT")
                }
                let others = Task {
                    while !Task.isCancelled {
                        _ = try? await pool.transaction { try $0.execute("INSERT INTO public.others VALUES (1)") }
                    }
                }
                for number in 0..<5 {
                    let outcome = await Result {
                        try await pool.transaction { connection in
                            try connection.execute("INSERT INTO public.ours VALUES (\(number))")
                            let backend = connection.backendProcessID
                            // The crash comes before COMMIT, which then meets a dead connection.
                            kill(backend, SIGKILL)
                            while kill(backend, 0) == 0 { sched_yield() }
                        }
                    }
                    var rows: Int?
                    while rows == nil {
                        rows = try? await pool.withConnection {
                            try $0.query("SELECT FROM public.ours WHERE x = \(number)").count
                        }
                    }
                    if case .success = outcome { #expect(rows == 1) }
                }
                others.cancel()
                await others.value
            }
        }
    }
}
