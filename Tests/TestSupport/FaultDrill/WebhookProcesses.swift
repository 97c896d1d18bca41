internal import Domain
internal import Synchronization

/// The `webhook-api` processes that the load is sent to, each replaced when it is ended.
final class WebhookProcesses: Sendable {
    /// A process that takes requests, or did a moment ago.
    struct Endpoint: Sendable, Hashable {
        /// Identifies a process among its successors.
        let generation: Int
        let port: Int
    }

    /// How a process is ended.
    enum Ending: Sendable {
        case kill
        /// SIGTERM: what was taken is answered, and the exit code is 0.
        case terminate
    }

    private struct Running {
        let process: ServiceProcess
        let endpoint: Endpoint
    }

    private struct State {
        var running: [Running] = []
        var generations = 0
        var terminated: Set<Int> = []
        var errorLines: [String] = []
    }

    private static let keptErrorLines = 3
    private static let keptErrorLength = 200

    /// What every request carries as `X-API-Key`.
    let key: String
    private let environment: [String: String]
    private let state = Mutex(State())

    /// - Parameter databaseURL: Of a migrated database.
    init(databaseURL: String) {
        key = (0..<32).map { _ in UInt8.random(in: .min ... .max) }.lowercaseHex
        environment = [
            "DATABASE_URL": databaseURL, "LITELLM_WEBHOOK_KEY": key, "WEBHOOK_HOST": "127.0.0.1", "WEBHOOK_PORT": "0",
        ]
    }

    /// Starts one more. Throws `ServiceProcess.Failure`.
    func start() async throws {
        let running = try await launch()
        state.withLock { $0.running.append(running) }
    }

    /// One of the processes by any number.
    func endpoint(_ number: Int) -> Endpoint {
        state.withLock { $0.running[number % $0.running.count].endpoint }
    }

    /// Whether the process was asked to stop, so that it owes an answer to whatever it took.
    func isTerminated(_ endpoint: Endpoint) -> Bool {
        state.withLock { $0.terminated.contains(endpoint.generation) }
    }

    /// What is wrong with processes that should be running.
    var findings: [String] {
        state.withLock(\.running).compactMap { running in
            running.process.exitCode.map { code in
                "webhook-api ended by itself with \(code): \(running.process.output.suffix(500))"
            }
        }
    }

    /// The first lines of level error that ended processes wrote.
    var errorLines: [String] { state.withLock(\.errorLines) }

    /// Ends one of the processes and starts its successor. Throws `ServiceProcess.Failure`.
    func replace(_ number: Int, by ending: Ending) async throws {
        let (index, running) = state.withLock { state in
            let index = number % state.running.count
            return (index, state.running[index])
        }
        try await end(running, by: ending)
        let successor = try await launch()
        state.withLock { $0.running[index] = successor }
    }

    /// Ends all of them. Throws `ServiceProcess.Failure`.
    func stop() async throws {
        for running in state.withLock(\.running) {
            try await end(running, by: .terminate)
        }
    }

    /// The last resort of a drill that failed.
    func kill() {
        state.withLock(\.running).forEach { $0.process.kill() }
    }

    private func end(_ running: Running, by ending: Ending) async throws {
        defer { keepErrorLines(of: running.process) }
        switch ending {
        case .kill:
            running.process.kill()
            try await running.process.waitForExit()
        case .terminate:
            state.withLock { _ = $0.terminated.insert(running.endpoint.generation) }
            running.process.terminate()
            let code = try await running.process.waitForExit()
            guard code == 0 else {
                throw ServiceProcess.Failure(
                    reason: "webhook-api ended with \(code) when asked to stop", output: running.process.output)
            }
        }
    }

    private func keepErrorLines(of process: ServiceProcess) {
        let lines = process.output.split(separator: "\n").filter { $0.contains(" error webhook-api: ") }
        state.withLock { state in
            state.errorLines += lines.prefix(Self.keptErrorLines - state.errorLines.count)
                .map { String($0.prefix(Self.keptErrorLength)) }
        }
    }

    private func launch() async throws -> Running {
        let process = try ServiceProcess(product: "webhook-api", environment: environment)
        do {
            let port = try await process.waitUntilListening()
            let generation = state.withLock { state in
                state.generations += 1
                return state.generations
            }
            return Running(process: process, endpoint: Endpoint(generation: generation, port: port))
        } catch {
            process.kill()
            throw error
        }
    }
}
