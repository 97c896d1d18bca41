import Analytics
import ArgumentParser
import Storage

/// `aggregation-worker once`
struct OnceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "once",
        abstract: "Rolls up every final log, then ends; for cron.",
        discussion: """
            Goes on where the last pass ended. It waits up to a second for open transactions on api_logs. Logs from \
            theirs on are left to the next pass.
            """)

    func run() async throws {
        try await WorkerContext.run { context in
            let progress = ProgressReport(of: "rows", logger: context.logger)
            let outcome = try await RollupPass(pool: context.pool, now: context.now).run { outcome in
                progress.update(done: outcome.rows, remaining: Int(outcome.remaining))
                return true
            }
            progress.end()
            if outcome.isBusy { print("another worker is at work") }
            for writer in outcome.waitingFor { print("waiting for \(writer)") }
            print("\(outcome.rows) rows rolled up")
        }
    }
}
