import ArgumentParser
import Domain
import Storage

extension QuarantineCommand {
    /// `codexflow quarantine discard`
    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Resolves open entries as discarded; they are kept, and shown by 'list --resolved'.",
            discussion: "If a discarded event is sent again and can be a row by then, it becomes one.")

        @Argument(help: "Ids of entries.") var ids: [EventKey] = []
        @OptionGroup var conditions: QuarantineConditions
        @Flag(help: "Every open entry; needed where neither ids nor conditions are given.") var allOpen = false
        @Flag(help: "Say how many it would be, and change nothing.") var dryRun = false

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
            let count = try await Operation.run { operation, connection in
                try Migrator.requireCurrent(connection)
                return dryRun
                    ? try Quarantine.summarize(filter, connection).reduce(0) { $0 + $1.entries }
                    : try Quarantine.discard(filter, connection, now: operation.now)
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
