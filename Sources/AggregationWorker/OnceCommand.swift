import Analytics
import ArgumentParser
import Storage

/// `aggregation-worker once`
struct OnceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "once",
        abstract: "Folds what is final into the sums, then ends; for cron.",
        discussion: """
            Goes on where the last pass ended, however that ended. Transactions that are open on api_logs are waited for a \
            second; rows from theirs on are left to the next pass.
            """)

    func run() async throws {
        try await Operation.run { operation in
            let progress = ProgressReport(of: "rows", logger: operation.logger)
            let outcome = try await RollupPass(pool: operation.pool, now: operation.now).run { outcome in
                progress.update(done: outcome.rows, remaining: Int(outcome.remaining))
                return true
            }
            progress.end()
            if outcome.isBusy { print("another worker is at work") }
            for writer in outcome.waitingFor { print("waiting for \(writer)") }
            print("\(outcome.rows) rows folded")
        }
    }
}
