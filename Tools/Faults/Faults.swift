import ArgumentParser
import Foundation
import TestSupport
import UnixSignals

/// The fault drill as a program.
@main
struct Faults: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "faults",
        abstract: "Kills and stops webhook-api and PostgreSQL under load, and looks for lost events.",
        discussion: """
            The drill works on a temporary PostgreSQL cluster. The exit code is 1 if an acknowledged event is lost, \
            stored twice or counted wrongly.
            """)

    @Option(help: "How often each fault happens.")
    var rounds = 20

    @Flag(help: "Give PostgreSQL a synchronous standby, which takes over in further faults.")
    var standby = false

    @Option(help: "How many webhook-api processes share the database.")
    var services = 1

    @Option(help: "How many clients post at the same time.")
    var clients = 8

    @Option(help: "The seed of bodies and faults (default: random).")
    var seed: UInt64?

    func validate() throws {
        guard rounds > 0, services > 0, clients > 0 else {
            throw ValidationError("--rounds, --services and --clients are 1 or more.")
        }
    }

    func run() async throws {
        var options = FaultDrill.Options(
            rounds: rounds, hasStandby: standby, services: services, clients: clients)
        options.seed = seed ?? options.seed
        let drill = Task { [options] in try await FaultDrill(options, log: Self.show).run() }
        // A drill that is stopped deletes its cluster and ends its processes.
        let watch = Task {
            for await _ in await UnixSignalsSequence(trapping: .sigint, .sigterm) { drill.cancel() }
        }
        defer { watch.cancel() }
        let report = try await drill.value
        Self.show(report.description)
        guard report.isClean else { throw ExitCode(1) }
    }

    /// Prints without delay, also into a pipe.
    @Sendable private static func show(_ text: String) {
        print(text)
        fflush(nil)
    }
}
