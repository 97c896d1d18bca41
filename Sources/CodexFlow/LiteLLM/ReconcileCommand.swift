import ArgumentParser
import Bootstrap
import Domain
import Foundation
import Logging
import Postgres
import Storage

/// `codexflow litellm reconcile`
struct ReconcileCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reconcile",
        abstract: "Compares LiteLLM's own record of calls (LITELLM_DATABASE_URL) with ours, per hour and key.",
        discussion: """
            Calls of customers' keys that were served, or failed with tokens or a cost. Prints the hours of which both \
            do not say the same; exit code 2 when there are any, after --take when any are left. LiteLLM's database is \
            only read.
            """)

    /// Hours of one comparison.
    private static let longest = Duration.seconds(86_400 * 31)

    @Option(help: "Calls begun at this time or later: RFC 3339, or a date in UTC (default: a day before --to).")
    var from: Moment?
    @Option(help: "Calls begun before this time (default: 15 minutes ago; what is later may be on its way).")
    var to: Moment?
    @Flag(help: "Store the calls that are missing here, through the same path as the webhook.") var take = false
    @Flag(help: "One JSON object instead of lines.") var json = false

    func run() async throws {
        let now = Timestamp.now
        let end = to?.timestamp ?? now.advanced(by: .seconds(-900))
        let start = from?.timestamp ?? end.advanced(by: .seconds(-86_400))
        guard start < end, end <= start.advanced(by: Self.longest) else {
            throw ValidationError("--from must lie before --to, and at most 31 days.")
        }
        let settings = try await Operation.explainingFailure {
            try SettingsReader.load().read { ReconcileSettings(reading: $0) }
        }
        guard let litellm = settings.litellm else {
            throw ValidationError("Set LITELLM_DATABASE_URL to the database of LiteLLM, its own DATABASE_URL.")
        }
        let take = take
        let report = try await Operation.withPool { _, pool in
            try await pool.withConnection { try Migrator.requireCurrent($0) }
            let logger = Logger(label: "codexflow", factory: { _ in SwiftLogNoOpLogHandler() })
            return try await ConnectionPool.withPool(
                litellm, limits: PoolLimits(maxConnections: 1), logger: logger
            ) { spend in
                let reconciliation = Reconciliation(
                    litellm: spend, schema: settings.schema, pool: pool, retention: settings.retention,
                    errorText: settings.errorText, now: { .now })
                return try await ReconcileReport(reconciliation, start..<end, takes: take)
            }
        }
        report.print(asJSON: json)
        if !report.differences.isEmpty { throw ExitCode(2) }
    }
}
