import Analytics
import ArgumentParser
import Postgres
import Storage

/// `aggregation-worker prune`
struct PruneCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune",
        abstract: "Makes the months ahead, and drops what is past its age, but nothing that is not rolled up.",
        discussion: """
            Events go by whole months, METERING_RETENTION_DAYS after their end. Rollups stay for ever. Rows of \
            api_logs go only when --api-logs-days says so. Uses MIGRATE_DATABASE_URL where it is set: only an owner \
            may drop a table.
            """,
        aliases: ["retain"])

    @Option(help: "Days after which resolved entries of the quarantine are forgotten.")
    var quarantineDays = 90

    @Option(help: "Delete rows of Laravel's api_logs that are older than this many days (default: none).")
    var apiLogsDays: Int?

    func validate() throws {
        guard (1...36_500).contains(quarantineDays), (1...36_500).contains(apiLogsDays ?? 1) else {
            throw ValidationError("A number of days is 1 to 36500.")
        }
    }

    func run() async throws {
        try await WorkerContext.run(privileged: true) { context in
            let now = context.now()
            let (quarantineDays, apiLogsDays) = (quarantineDays, apiLogsDays)
            let days = context.settings.retentionDays
            try await context.pool.withConnection { try EventPartitions.ensure($0, now: now, retentionDays: days) }
            let events = try await EventRetention(pool: context.pool).run(days: days, now: now)
            for month in events.months { print("dropped \(month)") }
            for month in events.unfolded {
                print("kept \(month): some of its events are not rolled up yet; run 'once' first")
            }
            print("\(events.rows) events deleted beside the months")
            let entries = try await context.pool.withConnection {
                try QuarantineRetention.run(days: quarantineDays, now: now, $0)
            }
            print("\(entries) resolved entries of the quarantine deleted")
            if let apiLogsDays {
                let progress = ProgressReport(of: "rows", logger: context.logger)
                let rows = try await LogRetention(pool: context.pool).run(days: apiLogsDays, now: now) { rows, left in
                    progress.update(done: rows, remaining: left)
                }
                progress.end()
                print("\(rows) rows of api_logs deleted")
            }
        }
    }
}
