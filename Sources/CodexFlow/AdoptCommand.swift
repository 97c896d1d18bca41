import ArgumentParser
import Storage

/// `codexflow adopt`
struct AdoptCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adopt",
        abstract: "Accepts Laravel's present tables as those this installation belongs to.",
        discussion: """
            Needed once after a restore or `php artisan migrate:fresh`: the services refuse to attribute events while \
            the tables are not those they know. History is kept where the same people and rows are there.
            """)

    @Flag(help: "Drop our events, counters, keys and quarantine, which belong to other people and rows.")
    var discardHistory = false

    func run() async throws {
        let discardingHistory = discardHistory
        let adoption = try await Operation.run(privileged: true) { operation, connection in
            try Installation.adopt(connection, discardingHistory: discardingHistory, now: operation.now)
        }
        switch adoption {
        case .unchanged: print("nothing had changed")
        case .sameIDs: print("adopted; history kept")
        case .discardedHistory: print("adopted; history discarded")
        }
    }
}
