internal import Foundation
internal import Synchronization

/// A running program of this package, with what it has written so far.
package final class ServiceProcess: Sendable {
    /// What was waited for did not come in time, or the program ended before.
    package struct Failure: Error, CustomStringConvertible {
        package var reason: String
        /// The end of what the program wrote.
        package var output: String

        package var description: String { "\(reason); its output ends: \(output.suffix(2000))" }
    }

    private struct Progress: Sendable {
        /// The last bytes written, at most ``ServiceProcess/keptBytes``.
        var output: [UInt8] = []
        var isOutputClosed = false
        var exitCode: Int32?
        var hasEnded: Bool { isOutputClosed && exitCode != nil }
        var text: String { String(decoding: output, as: UTF8.self) }
    }

    private static let keptBytes = 4 << 20
    /// No process is started between the making of another's pipe and its mark: it would inherit the end that is
    /// written to, and the pipe would not end before it.
    private static let spawning = Mutex(())

    private let process: Process
    private let name: String
    private let progress = Observed(Progress())

    /// Starts the executable product `product`, which lies beside the running one.
    ///
    /// It inherits no variable but `PATH`, and `TEST_CLUSTERS`, by which `make test` ends what a killed run has left;
    /// it works in `/`, where no `.env` lies. Throws ``Failure`` where it was not built.
    package convenience init(
        product: String, arguments: [String] = [], environment: [String: String]
    ) throws {
        let path = Checkout.products.appending(path: product).path()
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw Failure(reason: "\(path) was not built", output: "")
        }
        let inherited = ProcessInfo.processInfo.environment.filter { ["PATH", "TEST_CLUSTERS"].contains($0.key) }
        try self.init(
            path: path, arguments: arguments,
            environment: inherited.merging(environment) { _, given in given })
    }

    /// Starts the program at `path`, with our own environment where none is given.
    package init(path: String, arguments: [String], environment: [String: String]? = nil) throws {
        name = URL(filePath: path).lastPathComponent
        process = Process()
        process.executableURL = URL(filePath: path)
        process.arguments = arguments
        process.environment = environment ?? ProcessInfo.processInfo.environment
        process.currentDirectoryURL = URL(filePath: "/")
        process.standardInput = FileHandle.nullDevice
        let pipe = Self.spawning.withLock { _ in Pipe.closedOnExec() }
        process.standardOutput = pipe
        process.standardError = pipe
        let progress = progress
        process.terminationHandler = { process in
            let base: Int32 = process.terminationReason == .exit ? 0 : 128
            let exitCode = base + process.terminationStatus
            progress.update { $0.exitCode = exitCode }
        }
        try Self.spawning.withLock { _ in try Self.withSignalsUnblocked { try process.run() } }
        let reader = Thread { Self.read(pipe.fileHandleForReading, into: progress) }
        reader.start()
    }

    /// Reads all that is written, on a thread of its own: Foundation's handler for it has been seen to miss the end.
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

    /// The threads of Swift's pool block every signal, and a child inherits that: it would not hear SIGTERM.
    private static func withSignalsUnblocked(_ body: () throws -> Void) rethrows {
        var none = sigset_t()
        var former = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &former)
        defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
        try body()
    }

    /// What it wrote to standard output and standard error, the last 4 MiB.
    package var output: String { progress.value.text }

    /// Its exit code, or as in a shell 128 and the signal that ended it; `nil` while it runs.
    package var exitCode: Int32? { progress.value.exitCode }

    package var processID: Int32 { process.processIdentifier }

    /// SIGTERM: what is under way is finished.
    package func terminate() {
        send(SIGTERM)
    }

    /// SIGKILL: nothing is finished.
    package func kill() {
        send(SIGKILL)
    }

    /// Waits until it has written `text`. Throws ``Failure``.
    package func waitForOutput(_ text: String, within deadline: Duration = .seconds(30)) async throws {
        _ = await progress.wait(within: deadline) { $0.text.contains(text) || $0.hasEnded }
        guard output.contains(text) else { throw failure("did not write '\(text)'") }
    }

    /// The port that its line `listening on host:port` names. Throws ``Failure``.
    package func waitUntilListening(within deadline: Duration = .seconds(30)) async throws -> Int {
        _ = await progress.wait(within: deadline) { $0.text.listeningPort != nil || $0.hasEnded }
        guard let port = output.listeningPort else { throw failure("did not listen") }
        return port
    }

    /// Its exit code once it has ended and all it wrote was read. Throws ``Failure``.
    @discardableResult
    package func waitForExit(within deadline: Duration = .seconds(30)) async throws -> Int32 {
        guard await progress.wait(within: deadline, until: \.hasEnded), let exitCode else {
            throw failure("did not end within \(deadline)")
        }
        return exitCode
    }

    private func send(_ signal: Int32) {
        // Our child keeps its id until Foundation has reaped and reported it.
        if exitCode == nil {
            _ = Foundation.kill(process.processIdentifier, signal)
        }
    }

    private func failure(_ what: String) -> Failure {
        Failure(reason: exitCode.map { "\(name) \(what), it ended with \($0)" } ?? "\(name) \(what)", output: output)
    }
}

extension Pipe {
    /// A pipe that only the process it is meant for inherits, as its standard output.
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
