import Analytics
import ArgumentParser
import Foundation
import Postgres
import Storage

/// `aggregation-worker status`
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows how far the rollups are, what is pending, and what is waited for.")

    @Option(help: "Exit with code 2 when a row waits for longer: 10m or 1h; for a probe.")
    var maxLag: Interval?

    func run() async throws {
        try await WorkerContext.run { context in
            let now = context.now()
            let status = try await context.pool.withConnection { try RollupStatus.read(now: now, on: $0) }
            for (name, value) in status.lines { print(name.padding(toLength: 20, withPad: " ", startingAt: 0) + value) }
            if let maxLag, .seconds(status.pendingSeconds ?? 0) > maxLag.duration { throw ExitCode(2) }
        }
    }
}
