import Analytics
import ArgumentParser
import Logging
import Postgres
import Storage

/// `aggregation-worker rebuild`
struct RebuildCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rebuild",
        abstract: "Makes the rollups and counters of some days again from the logs.",
        discussion: """
            Writes only what is wrong. Refuses days whose logs are gone. Rollups of users whom Laravel has deleted \
            stay as they are. Rollup passes wait meanwhile; readers and ingest do not.
            """)

    @Option(help: "First UTC day, such as 2026-11-01.")
    var from: Day

    @Option(help: "The day after the last one.")
    var to: Day

    @Option(help: "A user's id (default: all users).")
    var user: Int64?

    @Flag(help: "Show what would be written, and change nothing.")
    var dryRun = false

    func validate() throws {
        if from.number >= to.number { throw ValidationError("--from must lie before --to.") }
        if let user, user <= 0 { throw ValidationError("--user is the id of a user, 1 or more.") }
    }

    func run() async throws {
        let range = RollupRange(from: from.number, to: to.number, user: user)
        try await WorkerContext.run { context in
            if dryRun {
                let report = try await context.pool.withConnection { connection in
                    try RollupRebuild.requireUnsealed(range, connection)
                    return try RollupVerification.verify(range, connection)
                }
                report.printLines()
                return
            }
            let progress = ProgressReport(of: "cells", logger: context.logger)
            let outcome = try await RollupRebuild(pool: context.pool).repair(range) { outcome, days in
                progress.update(done: outcome.cells, remaining: days)
            }
            progress.end()
            print("\(outcome.cells) cells and \(outcome.counters) counters repaired")
        }
    }
}
