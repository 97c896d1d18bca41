import Analytics
import ArgumentParser
import Bootstrap
import Domain
import Postgres
import Storage

/// `codexflow event`
struct EventCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "event", abstract: "Corrects single events.", subcommands: [Withdraw.self])

    /// `codexflow event withdraw`
    struct Withdraw: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Removes an event, as if it had never been stored.",
            discussion: """
                One transaction deletes the log and the event, and subtracts it from rollups and counters. \
                metering.withdrawn_events and the audit log keep who did it and what it was. If the event is sent \
                again, it is a duplicate. The command refuses an event of a time whose logs retention has dropped.
                """)

        @Option(help: "The id of the log, in api_logs.") var logID: Int64?
        @Option(help: "The key of the event, a UUID: event_key of /api/v1/logs.") var eventKey: EventKey?
        @Option(help: "The reason, for the audit log; at most 500 characters.") var reason: String?
        @Flag(help: "Print the event that would be removed, and change nothing.") var dryRun = false
        @Flag(help: "Print JSON.") var json = false

        /// Carries the event of a dry run out of the transaction, which it rolls back.
        private struct Undone: Error {
            let event: EventWithdrawal.Withdrawn
        }

        func validate() throws {
            guard (logID == nil) != (eventKey == nil) else {
                throw ValidationError("Name the event by --log-id or by --event-key.")
            }
            guard (reason?.unicodeScalars.count ?? 0) <= 500 else {
                throw ValidationError("--reason has at most 500 characters.")
            }
        }

        func run() async throws {
            guard let subject = logID.map(EventWithdrawal.Subject.log) ?? eventKey.map(EventWithdrawal.Subject.key)
            else { return }
            let (reason, dryRun) = (reason, dryRun)
            let event = try await OperatorContext.withPool { context, pool in
                try await pool.withConnection { connection in
                    try Migrator.requireCurrent(connection)
                    // Without a running service, nothing else notices that ids began again.
                    try IDLine.look(connection)
                }
                do {
                    let event = try await pool.transaction { connection in
                        let event = try EventWithdrawal.withdraw(
                            subject, reason: reason, connection, now: context.now)
                        if dryRun { throw Undone(event: event) }
                        return event
                    }
                    // A running webhook-api does this within a second.
                    try await pool.withConnection { connection in
                        _ = try QuotaCounters.addDeltas(connection, now: context.now)
                        try RateLimitProjection.project(connection, .users([event.userID]), now: context.now)
                    }
                    return event
                } catch let undone as Undone {
                    return undone.event
                }
            }
            if json {
                Terminal.print(json: QuarantineText.json(WithdrawnJSON(event, isDryRun: dryRun)))
            } else {
                Terminal.print(text(of: event))
            }
        }

        private func text(of event: EventWithdrawal.Withdrawn) -> String {
            let parts = [
                "log \(event.logID) of user \(event.userID)", event.occurredAt.rfc3339,
                "\(event.model) \(event.status)",
                "\(event.inputTokens) + \(event.outputTokens) tokens", event.cost.map { "\($0) USD" } ?? "unpriced",
                event.wasRolledUp ? "in the rollups" : "not yet in the rollups",
            ]
            return "\(dryRun ? "would withdraw" : "withdrawn"): \(event.key) (\(parts.joined(separator: ", ")))"
        }
    }
}

/// A withdrawn event as JSON.
private struct WithdrawnJSON: Encodable {
    let eventKey: String
    let logId, userId: Int64
    let occurredAt, model, status: String
    let inputTokens, outputTokens: Int64
    let cost: String?
    let flags: [String]
    let hadLog, wasRolledUp, dryRun: Bool

    init(_ event: EventWithdrawal.Withdrawn, isDryRun: Bool) {
        eventKey = event.key.description
        (logId, userId) = (event.logID, event.userID)
        (occurredAt, model, status) = (event.occurredAt.rfc3339, event.model, event.status)
        (inputTokens, outputTokens) = (event.inputTokens, event.outputTokens)
        (cost, flags) = (event.cost, event.flags)
        (hadLog, wasRolledUp, dryRun) = (event.hadLog, event.wasRolledUp, isDryRun)
    }
}
