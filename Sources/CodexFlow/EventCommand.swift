import ArgumentParser
import Bootstrap
import Domain
import Postgres
import Storage

/// `codexflow event`
struct EventCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "event", abstract: "Corrects what is stored of single events.", subcommands: [Withdraw.self])

    /// `codexflow event withdraw`
    struct Withdraw: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes an event back, as if it had never been stored.",
            discussion: """
                Deletes its row of api_logs and its facts, and takes it out of rollups and counters, in one \
                transaction. Who did it and what it was is kept in metering.withdrawn_events and the audit log; sent \
                again, the event is a duplicate. Refused where retention has dropped the raw rows of its time.
                """)

        @Option(help: "The id of its row in api_logs.") var logID: Int64?
        @Option(help: "Its key, a UUID: event_key of /api/v1/logs.") var eventKey: EventKey?
        @Option(help: "Why, for the audit log; at most 500 characters.") var reason: String?
        @Flag(help: "Say which event it would be, and change nothing.") var dryRun = false
        @Flag(help: "Print JSON.") var json = false

        /// What a dry run brings out of the transaction that is undone.
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
            let event = try await Operation.withPool { operation, pool in
                try await pool.withConnection { connection in
                    try Migrator.requireCurrent(connection)
                    // Where no service runs, nobody else notices ids that began again.
                    try IDLine.look(connection)
                }
                do {
                    let event = try await pool.transaction { connection in
                        let event = try EventWithdrawal.withdraw(
                            subject, reason: reason, connection, now: operation.now)
                        if dryRun { throw Undone(event: event) }
                        return event
                    }
                    // As webhook-api does within a second, if it runs.
                    try await pool.withConnection { connection in
                        _ = try QuotaFold.fold(connection, now: operation.now)
                        try RateLimitProjection.project(connection, .users([event.userID]), now: operation.now)
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
            let facts = [
                "log \(event.logID) of user \(event.userID)", event.occurredAt.text, "\(event.model) \(event.status)",
                "\(event.inputTokens) + \(event.outputTokens) tokens", event.cost.map { "\($0) USD" } ?? "unpriced",
                event.wasRolledUp ? "in the rollups" : "not yet in the rollups",
            ]
            return "\(dryRun ? "would withdraw" : "withdrawn"): \(event.key) (\(facts.joined(separator: ", ")))"
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
        (occurredAt, model, status) = (event.occurredAt.text, event.model, event.status)
        (inputTokens, outputTokens) = (event.inputTokens, event.outputTokens)
        (cost, flags) = (event.cost, event.flags)
        (hadLog, wasRolledUp, dryRun) = (event.hadLog, event.wasRolledUp, isDryRun)
    }
}
