package import Foundation
internal import Synchronization

/// A running program of this package, with its output so far.
package final class ServiceProcess: Sendable {
    /// A program ended, or did not do in time what was waited for.
    package struct Failure: Error, CustomStringConvertible {
        package var reason: String
        /// The end of the program's output.
        package var output: String

        package var description: String { "\(reason); its output ends: \(output.suffix(2000))" }
    }

    private struct Progress: Sendable {
        /// The last bytes of the output, at most ``ServiceProcess/keptBytes``.
        var output: [UInt8] = []
        var isOutputClosed = false
        var exitCode: Int32?
        var hasEnded: Bool { isOutputClosed && exitCode != nil }
        var text: String { String(decoding: output, as: UTF8.self) }
    }

    private static let keptBytes = 4 << 20
    /// Prevents the start of a process between the creation of another's pipe and its mark. The process would inherit
    /// the pipe, which would stay open until its end.
    private static let spawning = Mutex(())

    private let process: Process
    private let name: String
    private let progress = Observed(Progress())

    /// Starts the program `product`, which is in the folder of the running program.
    ///
    /// It inherits `PATH`, and `TEST_CLUSTERS`, by which `make test` ends what a killed run has left. It works in `/`,
    /// where no `.env` is.
    ///
    /// - Throws: ``Failure`` when it was not built; what Foundation throws when it cannot be started.
    package static func start(
        product: String, arguments: [String] = [], environment: [String: String]
    ) throws -> ServiceProcess {
        let path = Checkout.products.appending(path: product).path()
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw Failure(reason: "\(path) was not built", output: "")
        }
        let inherited = ProcessInfo.processInfo.environment.filter { ["PATH", "TEST_CLUSTERS"].contains($0.key) }
        return try start(
            path: path, arguments: arguments, environment: inherited.merging(environment) { _, given in given })
    }

    /// Starts the program at `path`, with our own environment if none is given.
    ///
    /// - Throws: What Foundation throws when it cannot be started.
    package static func start(
        path: String, arguments: [String], environment: [String: String]? = nil
    ) throws -> ServiceProcess {
        let service = ServiceProcess(path: path, arguments: arguments, environment: environment)
        try service.run()
        return service
    }

    private init(path: String, arguments: [String], environment: [String: String]?) {
        name = URL(filePath: path).lastPathComponent
        process = Process()
        process.executableURL = URL(filePath: path)
        process.arguments = arguments
        process.environment = environment ?? ProcessInfo.processInfo.environment
        process.currentDirectoryURL = URL(filePath: "/")
        process.standardInput = FileHandle.nullDevice
    }

    private func run() throws {
        let pipe = Self.spawning.withLock { _ in Pipe.closedOnExec() }
        process.standardOutput = pipe
        process.standardError = pipe
        process.terminationHandler = { [progress] process in
            let base: Int32 = process.terminationReason == .exit ? 0 : 128
            let exitCode = base + process.terminationStatus
            progress.update { $0.exitCode = exitCode }
        }
        try Self.spawning.withLock { _ in try Self.withSignalsUnblocked { try process.run() } }
        let reader = Thread { [progress] in Self.read(pipe.fileHandleForReading, into: progress) }
        reader.start()
    }

    /// Reads the output on a thread, because Foundation's handler can miss the end.
    private static func read(_ handle: FileHandle, into progress: Observed<Progress>) {
        while true {
            let data = handle.availableData
            progress.update { progress in
                progress.output = Array((progress.output + data).suffix(keptBytes))
                progress.isOutputClosed = data.isEmpty
            }
            if data.isEmpty { return }
        }
    }

    /// The threads of Swift's pool block all signals. A child inherits that, and would not receive SIGTERM.
    private static func withSignalsUnblocked(_ body: () throws -> Void) rethrows {
        var none = sigset_t()
        var former = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &former)
        defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
        try body()
    }

    /// The last 4 MiB of standard output and standard error.
    package var output: String { progress.value.text }

    /// The exit code; 128 plus the signal, as in a shell; `nil` while it runs.
    package var exitCode: Int32? { progress.value.exitCode }

    package var processID: Int32 { process.processIdentifier }

    /// Sends SIGTERM: the program finishes its present work.
    package func terminate() {
        send(SIGTERM)
    }

    /// Sends SIGKILL: the program finishes nothing.
    package func kill() {
        send(SIGKILL)
    }

    /// Waits until its output contains `text`.

    ///

    /// - Throws: ``Failure`` when it does not in time, or the program ends before.
    package func waitForOutput(_ text: String, within deadline: Duration = .seconds(30)) async throws {
        _ = await progress.wait(within: deadline) { $0.text.contains(text) || $0.hasEnded }
        guard output.contains(text) else { throw failure("did not write '\(text)'") }
    }

    /// Waits for its line `listening on host:port`, and returns the port.

    ///

    /// - Throws: ``Failure`` when there is none in time, or the program ends before.
    package func waitUntilListening(within deadline: Duration = .seconds(30)) async throws -> Int {
        _ = await progress.wait(within: deadline) { $0.text.listeningPort != nil || $0.hasEnded }
        guard let port = output.listeningPort else { throw failure("did not listen") }
        return port
    }

    /// Waits for its end and returns the exit code. Its whole output is then read.

    ///

    /// - Throws: ``Failure`` when it does not end in time.
    @discardableResult
    package func waitForExit(within deadline: Duration = .seconds(30)) async throws -> Int32 {
        guard await progress.wait(within: deadline, until: \.hasEnded), let exitCode else {
            throw failure("did not end within \(deadline)")
        }
        return exitCode
    }

    private func send(_ signal: Int32) {
        // A child keeps its id until Foundation has reaped it and called the handler.
        if exitCode == nil {
            _ = Foundation.kill(process.processIdentifier, signal)
        }
    }

    private func failure(_ what: String) -> Failure {
        Failure(reason: exitCode.map { "\(name) \(what), it ended with \($0)" } ?? "\(name) \(what)", output: output)
    }
}

extension Pipe {
    /// A pipe that only its own process inherits, as standard output.
    fileprivate static func closedOnExec() -> Pipe {
        let pipe = Pipe()
        for handle in [pipe.fileHandleForReading, pipe.fileHandleForWriting] {
            _ = fcntl(handle.fileDescriptor, F_SETFD, FD_CLOEXEC)
        }
        return pipe
    }
}

extension String {
    /// The port of the first complete line that says `listening on host:port`.
    package var listeningPort: Int? {
        guard let words = range(of: "listening on "), let end = self[words.upperBound...].firstIndex(where: \.isNewline)
        else { return nil }
        let address = self[words.upperBound..<end].prefix { !$0.isWhitespace }
        return address.lastIndex(of: ":").flatMap { Int(address[address.index(after: $0)...]) }
    }
}

/// A value whose changes tasks can wait for.
final class Observed<Value: Sendable>: Sendable {
    private struct Waiter {
        var isSatisfied: @Sendable (Value) -> Bool
        var continuation: CheckedContinuation<Bool, Never>
        var deadline: Task<Void, Never>
    }

    private struct State {
        var value: Value
        var waiters: [Int: Waiter] = [:]
        var nextWaiter = 0
    }

    private let state: Mutex<State>

    init(_ value: Value) {
        state = Mutex(State(value: value))
    }

    var value: Value { state.withLock(\.value) }

    func update(_ change: (inout Value) -> Void) {
        let satisfied = state.withLock { state in
            change(&state.value)
            let ids = state.waiters.filter { $0.value.isSatisfied(state.value) }.keys
            return ids.compactMap { state.waiters.removeValue(forKey: $0) }
        }
        for waiter in satisfied {
            waiter.deadline.cancel()
            waiter.continuation.resume(returning: true)
        }
    }

    /// Waits until `isSatisfied` holds; returns false if `deadline` passes first.
    func wait(within deadline: Duration, until isSatisfied: @escaping @Sendable (Value) -> Bool) async -> Bool {
        await withCheckedContinuation { continuation in
            let isSatisfiedNow = state.withLock { state in
                if isSatisfied(state.value) { return true }
                let id = state.nextWaiter
                state.nextWaiter += 1
                let timer = Task {
                    guard (try? await Task.sleep(for: deadline)) != nil else { return }
                    self.expire(id)
                }
                state.waiters[id] = Waiter(isSatisfied: isSatisfied, continuation: continuation, deadline: timer)
                return false
            }
            if isSatisfiedNow {
                continuation.resume(returning: true)
            }
        }
    }

    private func expire(_ id: Int) {
        state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume(returning: false)
    }
}

/// A program that runs to its end.
package enum Command {
    /// A program ended with another exit code than 0.
    package struct Failure: Error, CustomStringConvertible {
        package var program: String
        package var exitCode: Int32
        /// Its standard output and standard error.
        package var output: String

        package var description: String { "\(program) ended with \(exitCode): \(output)" }
    }

    /// Runs `program` and returns its standard output and standard error, without the last line break.
    ///
    /// - Throws: ``Failure`` when its exit code is not 0; what Foundation throws when it cannot be started.
    @discardableResult
    package static func run(
        _ program: String, _ arguments: [String], environment: [String: String]? = nil,
        within deadline: Duration = .seconds(120)
    ) async throws -> String {
        let process = try ServiceProcess.start(path: program, arguments: arguments, environment: environment)
        let exitCode = try await process.waitForExit(within: deadline)
        let output = process.output.trimmingCharacters(in: .newlines)
        guard exitCode == 0 else { throw Failure(program: program, exitCode: exitCode, output: output) }
        return output
    }
}

/// The working copy of these tests.
package enum Checkout {
    /// Its folder, found from the path of this file.
    package static let root = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The folder of the migrations' files.
    package static let migrations = root.appending(path: "migrations").path()

    /// The folder of the running program, where the programs of the same build are.
    package static var products: URL {
        URL(filePath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
    }
}
