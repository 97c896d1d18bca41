import Bootstrap
import Logging
import ServiceLifecycle
import Synchronization
import Testing

/// Signals are tested on real processes, by the tests of the executables: here they would stop other tests' servers.
@Suite(.timeLimit(.minutes(30))) struct ServiceRunnerTests {
    private struct Failure: Error {}

    private final class Waiting: Service {
        let ended = Mutex(false)

        func run() async throws {
            for await _ in AsyncStream<Never>.makeStream().stream {}
            ended.withLock { $0 = true }
        }
    }

    private struct Failing: Service {
        func run() async throws { throw Failure() }
    }

    @Test func aServiceThatFailsEndsTheOthersAndItsErrorIsThePrograms() async {
        let waiting = Waiting()
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        await #expect(throws: Failure.self) { try await ServiceRunner.run([waiting, Failing()], logger: logger) }
        #expect(waiting.ended.withLock { $0 })
    }
}
