import ArgumentParser
import Domain
import Postgres
import Storage

extension QuarantineCommand {
    /// `codexflow quarantine replay`
    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Tries entries now, through the same path as a delivery; without ids or conditions all open ones.",
            discussion: "Prints the entries that stay and why, then the counts; exit code 1 when any stays.")

        /// Lines that a replay of many prints about entries that stay.
        private static let linesAtMost = 100

        @Argument(help: "Ids of entries.") var ids: [EventKey] = []
        @OptionGroup var conditions: QuarantineConditions
        @Flag(
            name: .customLong("answered-404"),
            help: """
                Also entries without a key of their own that were answered 404. Their sender may have sent them again as \
                new events: then they count twice.
                """) var answered404 = false
        @Flag(help: "Say what would happen to each entry, and change nothing.") var dryRun = false

        func run() async throws {
            let filter = conditions.filter(ids.isEmpty ? .open : .all, ids: ids)
            let options = QuarantineReplay.Options(includesRefused: answered404, isDryRun: dryRun)
            let missing = Set(ids)
            let report = try await Operation.withPool { _, pool in
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

/// What a replay did, counted.
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
    /// - Throws: `ExitCode` 1 where an entry stays or was not found.
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
    /// One word, and why the entry stays, if it does.
    fileprivate func words(for item: QuarantinedItem) -> (word: String, why: String?) {
        switch self {
        case .verdict(.stored): ("stored", nil)
        case .verdict(.duplicate): ("duplicate", nil)
        case .verdict(.conflict(let logID)):
            (
                "conflict",
                "api_logs \(logID) has other facts; an entry of its own was made. \(QuarantineReason.conflict.remedy)"
            )
        case .verdict(.quarantined(let reason)): (reason.rawValue, "\(reason.explanation) \(reason.remedy)")
        case .neverARow: (item.reason.rawValue, "This never becomes a row. \(item.reason.remedy)")
        case .wasRefused:
            (
                "answered_404",
                "Its sender saw a 404 and may have sent it again. Give --answered-404 if it did not, or discard it."
            )
        case .unreadableFacts: ("unreadable_facts", "Another version wrote it; replay it with that version.")
        case .resolvedBefore: ("resolved_before", "It is \(item.resolution?.outcome ?? "resolved") already.")
        }
    }
}
