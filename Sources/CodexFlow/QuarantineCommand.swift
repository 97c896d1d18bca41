import ArgumentParser
import Bootstrap
import Domain
import Postgres
import Storage

/// `codexflow quarantine`
struct QuarantineCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quarantine",
        abstract: "Shows and steers what was put aside instead of becoming a row.",
        discussion: """
            What waits for a key, a user or Laravel's tables becomes a row by itself, within seconds of their appearing. \
            Exit codes: 0 done, 1 something failed or was left, 64 wrong usage.
            """,
        subcommands: [List.self, Show.self, Replay.self, Discard.self])

    /// `codexflow quarantine list`
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists entries in the order in which they were received, or counts them by reason.")

        @OptionGroup var conditions: QuarantineConditions
        @Flag(help: "Which entries: not yet rows, resolved ones, or both.") var state: QuarantineState = .open
        @Option(help: "At most so many, 1 to 10000.") var limit = 50
        @Option(help: "Go on behind this entry, the last of the page before.") var after: EventKey?
        @Flag(help: "Count by reason instead.") var count = false
        @Flag(help: "Print a JSON object a line.") var json = false

        func validate() throws {
            guard (1...10_000).contains(limit) else { throw ValidationError("--limit is 1 to 10000.") }
        }

        func run() async throws {
            let (filter, after, limit) = (conditions.filter(state.value), after, limit)
            if count {
                let summaries = try await Operation.onQuarantine { try Quarantine.summarize(filter, $0) }
                return QuarantineText.print(summaries, asJSON: json)
            }
            let items = try await Operation.onQuarantine {
                try Quarantine.list(filter, after: after, limit: limit, $0)
            }
            QuarantineText.print(items, asJSON: json)
            if items.count == limit, let last = items.last { QuarantineText.note("more: --after \(last.id)") }
        }
    }

    /// `codexflow quarantine show`
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows everything that is kept of an entry, and what to do about it.")

        @Argument(help: "The entry's id.") var id: EventKey
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let id = id
            let (item, findings) = try await Operation.run { operation, connection in
                try Migrator.requireCurrent(connection)
                let findings = try LaravelDiagnosis.findings(
                    connection, rolePrefix: operation.rolePrefix, connectedAs: .operator)
                return (try Quarantine.require(id, connection), findings)
            }
            if json {
                Terminal.print(json: QuarantineText.json(QuarantineJSON(item)))
            } else {
                Terminal.print(lines: QuarantineText.description(of: item, amid: findings))
            }
        }
    }
}

extension Operation {
    /// Does `body` with a connection, once the schema is known to have what it needs.
    static func onQuarantine<T: Sendable>(_ body: @escaping @Sendable (Connection) throws -> T) async throws -> T {
        try await run { _, connection in
            try Migrator.requireCurrent(connection)
            return try body(connection)
        }
    }
}
