import ArgumentParser
import Bootstrap
import Domain
import Foundation
import Postgres
import Storage

/// `codexflow quarantine`
struct QuarantineCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quarantine",
        abstract: "Lists, replays and discards events that could not become logs.",
        discussion: """
            An event that waits for a key, a user or Laravel's tables becomes a log by itself, within seconds after \
            that is there. Exit codes: 0 done, 1 something failed or remains, 64 wrong usage.
            """,
        subcommands: [List.self, Show.self, Replay.self, Discard.self])

    /// `codexflow quarantine list`
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists entries in the order of their arrival, or counts them by reason.")

        @OptionGroup var conditions: QuarantineConditions
        @Flag(help: "Which entries: open, resolved or all.") var state: QuarantineState = .open
        @Option(help: "How many entries at most, 1 to 10000.") var limit = 50
        @Option(help: "List entries after this one, the last of the previous page.") var after: EventKey?
        @Flag(help: "Count by reason instead.") var count = false
        @Flag(help: "Print one JSON object a line.") var json = false

        func validate() throws {
            guard (1...10_000).contains(limit) else { throw ValidationError("--limit is 1 to 10000.") }
        }

        func run() async throws {
            let (filter, after, limit) = (conditions.filter(state.value), after, limit)
            if count {
                let summaries = try await OperatorContext.onQuarantine { try Quarantine.summarize(filter, $0) }
                return QuarantineText.print(summaries, asJSON: json)
            }
            let items = try await OperatorContext.onQuarantine {
                try Quarantine.list(filter, after: after, limit: limit, $0)
            }
            QuarantineText.print(items, asJSON: json)
            if items.count == limit, let last = items.last { QuarantineText.note("more: --after \(last.id)") }
        }
    }

    /// `codexflow quarantine show`
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows an entry, and what to do about it.")

        @Argument(help: "The entry's id.") var id: EventKey
        @Flag(help: "Print JSON.") var json = false

        func run() async throws {
            let id = id
            let (item, findings) = try await OperatorContext.run { context, connection in
                try Migrator.requireCurrent(connection)
                let findings = try LaravelDiagnosis.findings(
                    connection, rolePrefix: context.rolePrefix, connectedAs: .operator)
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

extension OperatorContext {
    /// Runs `body` with a connection whose schema is current.
    ///
    /// - Throws: `ExitCode` 1 after the failure was written to standard error.
    static func onQuarantine<T: Sendable>(_ body: @escaping @Sendable (Connection) throws -> T) async throws -> T {
        try await run { _, connection in
            try Migrator.requireCurrent(connection)
            return try body(connection)
        }
    }
}

extension QuarantineCommand {
    /// `codexflow quarantine replay`
    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Stores entries now, as if they were delivered again: all open ones, or those that are named.",
            discussion: "Prints the entries that remain, with the reason, then the counts. Exit code 1 if any remains.")

        /// The most remaining entries that a replay lists.
        private static let linesAtMost = 100

        @Argument(help: "Ids of entries.") var ids: [EventKey] = []
        @OptionGroup var conditions: QuarantineConditions
        @Flag(
            name: .customLong("answered-404"),
            help: """
                Include entries without an idempotency key that were answered 404. Their sender may have sent them \
                again as new events; such events then count twice.
                """)
        var answered404 = false
        @Flag(help: "Print what would happen to each entry, and change nothing.") var dryRun = false

        func run() async throws {
            let filter = conditions.filter(ids.isEmpty ? .open : .all, ids: ids)
            let options = QuarantineReplay.Options(includesRefused: answered404, isDryRun: dryRun)
            let missing = Set(ids)
            let report = try await OperatorContext.withPool { _, pool in
                try await pool.withConnection { try Migrator.requireCurrent($0) }
                let writer = EventWriter(pool: pool, now: { .now })
                let replay = QuarantineReplay(pool: pool, writer: writer, now: { .now })
                var report = ReplayReport(linesAtMost: options.isDryRun ? .max : Self.linesAtMost, missing: missing)
                var cursor: EventKey?
                repeat {
                    let page = try await replay.replay(filter, after: cursor, options: options)
                    for (item, outcome) in page.outcomes {
                        report.add(item, outcome, printsAll: options.isDryRun)
                    }
                    cursor = page.next
                } while cursor != nil
                return report
            }
            try report.finish(isDryRun: dryRun)
        }
    }
}

/// Counts the results of a replay.
private struct ReplayReport: Sendable {
    private let linesAtMost: Int
    private var lines = 0
    private var counts: [String: Int] = [:]
    private var hasLeft = false
    private var missing: Set<EventKey>

    init(linesAtMost: Int, missing: Set<EventKey>) {
        self.linesAtMost = linesAtMost
        self.missing = missing
    }

    mutating func add(_ item: QuarantinedItem, _ outcome: QuarantineReplay.Outcome, printsAll: Bool) {
        missing.remove(item.id)
        let (word, why) = outcome.words(for: item)
        counts[word, default: 0] += 1
        if why != nil { hasLeft = true }
        guard why != nil || printsAll else { return }
        lines += 1
        if lines <= linesAtMost { print(item.id, word, why ?? "", separator: "  ") }
    }

    /// Prints the counts.
    ///
    /// - Throws: `ExitCode` 1 when an entry remains or was not found.
    func finish(isDryRun: Bool) throws {
        if lines > linesAtMost { print("… and \(lines - linesAtMost) more") }
        for id in missing.sorted() { print(id, "missing", "There is no such entry.", separator: "  ") }
        if isDryRun { print("nothing was changed; a replay would have given:") }
        if counts.isEmpty { print("no entry") }
        for (word, count) in counts.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) { print(word, count) }
        if hasLeft || !missing.isEmpty { throw ExitCode(1) }
    }
}

extension QuarantineReplay.Outcome {
    /// The outcome in one word, and the reason if the entry remains.
    fileprivate func words(for item: QuarantinedItem) -> (word: String, why: String?) {
        switch self {
        case .verdict(.stored): ("stored", nil)
        case .verdict(.duplicate): ("duplicate", nil)
        case .verdict(.conflict(let logID)):
            (
                "conflict",
                "api_logs \(logID) has other contents, so a new entry was made. \(QuarantineReason.conflict.remedy)"
            )
        case .verdict(.quarantined(let reason)): (reason.rawValue, "\(reason.explanation) \(reason.remedy)")
        case .neverARow: (item.reason.rawValue, "This never becomes a log. \(item.reason.remedy)")
        case .wasRefused:
            (
                "answered_404",
                "Its sender received 404 and may have sent it again. Give --answered-404 if it did not, or discard it."
            )
        case .unreadableFacts: ("unreadable_facts", "Another version wrote it; replay it with that version.")
        case .resolvedBefore: ("resolved_before", "It is \(item.resolution?.outcome ?? "resolved") already.")
        }
    }
}

extension QuarantineCommand {
    /// `codexflow quarantine discard`
    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Resolves open entries as discarded. 'list --resolved' still shows them.",
            discussion: "A discarded event that is sent again becomes a log, if it can by then.")

        @Argument(help: "Ids of entries.") var ids: [EventKey] = []
        @OptionGroup var conditions: QuarantineConditions
        @Flag(help: "Discard every open entry; needed without ids and conditions.") var allOpen = false
        @Flag(help: "Print how many it would be, and change nothing.") var dryRun = false

        func validate() throws {
            let isNarrow = conditions.filter(.open, ids: ids).isNarrow
            guard isNarrow != allOpen else {
                throw ValidationError(
                    allOpen
                        ? "--all-open goes with neither ids nor conditions." : "Give ids, conditions, or --all-open.")
            }
        }

        func run() async throws {
            let (filter, dryRun) = (conditions.filter(.open, ids: ids), dryRun)
            let count = try await OperatorContext.run { context, connection in
                try Migrator.requireCurrent(connection)
                return dryRun
                    ? try Quarantine.summarize(filter, connection).reduce(0) { $0 + $1.entries }
                    : try Quarantine.discard(filter, connection, now: context.now)
            }
            print(dryRun ? "would discard \(count)" : "discarded \(count)")
            let left = Set(ids).count - count
            guard ids.isEmpty || left == 0 else {
                QuarantineText.note("\(left) of the ids are no open entries that meet the conditions")
                throw ExitCode(1)
            }
        }
    }
}

/// The options that choose quarantine entries. An entry must meet all that are given.
struct QuarantineConditions: ParsableArguments {
    @Option(help: "A reason; may be given several times.") var reason: [QuarantineReason] = []
    @Option(help: "The id of the user that the event names, or that has its key.") var user: Int64?
    @Option(help: "The first digits of the SHA-256 of the event's API key.") var keyHash: HexPrefix?
    @Option(help: "The model, as the client named it.") var model: String?
    @Option(help: "Received at or after this time: RFC 3339, or a date in UTC.") var from: Moment?
    @Option(help: "Received before this time.") var to: Moment?

    func filter(_ state: QuarantineFilter.State, ids: [EventKey] = []) -> QuarantineFilter {
        QuarantineFilter(
            state: state, ids: ids.isEmpty ? nil : ids, reasons: Set(reason), userID: user, keyHash: keyHash,
            model: model, from: from?.timestamp, to: to?.timestamp)
    }
}

/// Which entries a list shows.
enum QuarantineState: String, EnumerableFlag {
    case open, resolved, all

    var value: QuarantineFilter.State {
        switch self {
        case .open: .open
        case .resolved: .resolved
        case .all: .all
        }
    }
}

/// A point in time as an operator writes it: RFC 3339, or a date, which means its beginning in UTC.
struct Moment: ExpressibleByArgument {
    let timestamp: Timestamp

    init?(argument: String) {
        guard let time = Timestamp(rfc3339: argument) ?? CalendarDate(argument)?.start else { return nil }
        timestamp = time
    }
}

extension QuarantineReason: ExpressibleByArgument {}

extension EventKey: ExpressibleByArgument {
    public init?(argument: String) {
        self.init(argument.lowercased())
    }
}

extension HexPrefix: ExpressibleByArgument {
    public init?(argument: String) {
        self.init(argument)
    }
}
