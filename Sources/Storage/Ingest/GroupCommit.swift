package import Domain
import Metrics
import Postgres
import ServiceLifecycle
import Synchronization

/// Collects the events of all requests and commits whatever is waiting in one transaction, then answers every waiter
/// (`design.md` §4, Group commit).
///
/// No timer: while one commit runs, the next batch gathers. A second writer helps only under a backlog of more than a whole
/// batch. Events whose user is locked wait in a lane of their own, so that nobody else waits for them.
package final class GroupCommit: Service, Sendable {
    /// Bounds of what may wait.
    package struct Limits: Sendable {
        /// Events that wait for a commit; over it a request is answered 503.
        package var queuedEvents: Int
        /// Events of one transaction.
        package var batchEvents: Int
        package var writers: Int
        /// How long, and how often, a locked user is waited for before the event is put aside.
        package var lockedRetryInterval: Duration
        package var lockedAttempts: Int

        package init(
            queuedEvents: Int = 20_000, batchEvents: Int = 1_000, writers: Int = 2,
            lockedRetryInterval: Duration = .milliseconds(50), lockedAttempts: Int = 5
        ) {
            self.queuedEvents = queuedEvents
            self.batchEvents = batchEvents
            self.writers = writers
            self.lockedRetryInterval = lockedRetryInterval
            self.lockedAttempts = lockedAttempts
        }
    }

    private struct State {
        var queued: [QueuedItem] = []
        /// Position of the first item in ``queued`` that no writer took.
        var head = 0
        var locked: [QueuedItem] = []
        var isClosing = false

        var count: Int { queued.count - head }
    }

    private let writer: EventWriter
    private let limits: Limits
    private let state = Mutex(State())
    /// Wakes writer `i`; the last signal is for the lane of locked users.
    private let signals: [(stream: AsyncStream<Void>, continuation: AsyncStream<Void>.Continuation)]
    private let mismatch = Mutex<Installation.Mismatch?>(nil)

    package init(writer: EventWriter, limits: Limits = Limits()) {
        self.writer = writer
        self.limits = limits
        signals = (0...limits.writers).map { _ in AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }
    }

    /// Events that wait for a writer.
    package var depth: Int { state.withLock(\.count) }

    /// Events that wait for somebody's lock on their user to end.
    package var lockedDepth: Int { state.withLock(\.locked.count) }

    /// The verdicts of `items`, in order, after their COMMIT.
    ///
    /// - Throws: ``AppError`` `.unavailable` when the queue is full, the service stops, or the database is unavailable;
    ///   `.timeout` when the database took too long. Nothing was acknowledged then.
    package func submit(_ items: [IngestItem]) async throws -> [Verdict] {
        guard !items.isEmpty else { return [] }
        return try await withCheckedThrowingContinuation { continuation in
            let submission = Submission(items, continuation)
            let isTaken = state.withLock { state in
                // A body larger than the whole queue is taken when nothing else waits.
                guard !state.isClosing, state.count == 0 || state.count + items.count <= limits.queuedEvents else {
                    return false
                }
                state.queued += items.indices.map { QueuedItem(submission: submission, index: $0) }
                return true
            }
            guard isTaken else {
                submission.fail(
                    AppError(.unavailable, "Too many events wait. Send the same request again.", retryAfter: 1))
                return
            }
            wakeWriters()
        }
    }

    /// Writes until the service is asked to stop and everything taken is answered.
    ///
    /// - Throws: ``Installation/Mismatch`` when Laravel's tables are not those this installation belongs to.
    package func run() async throws {
        await withTaskCancellationOrGracefulShutdownHandler {
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<limits.writers {
                    group.addTask { await self.runWriter(index) }
                }
                group.addTask { await self.runLockedLane() }
            }
        } onCancelOrGracefulShutdown: {
            self.close()
        }
        // A writer's last batch may have left locked users behind.
        while await retryLocked() {}
        if let mismatch = mismatch.withLock({ $0 }) { throw mismatch }
    }

    private func close() {
        state.withLock { $0.isClosing = true }
        signals.forEach { $0.continuation.finish() }
    }

    private func wakeWriters() {
        signals.dropLast().forEach { $0.continuation.yield() }
    }

    /// Writer 0 takes whatever waits; writer `n` only what is beyond `n` whole batches.
    private func runWriter(_ index: Int) async {
        for await _ in signals[index].stream {
            while let batch = takeBatch(leaving: index * limits.batchEvents) { await write(batch) }
        }
        // After the signal to stop: what was taken is answered.
        while let batch = takeBatch(leaving: 0) { await write(batch) }
    }

    private func takeBatch(leaving backlog: Int) -> [QueuedItem]? {
        let (batch, depth) = state.withLock { state -> ([QueuedItem]?, Int) in
            guard state.count > backlog else { return (nil, state.count) }
            let end = state.head + min(state.count, limits.batchEvents)
            let batch = Array(state.queued[state.head..<end])
            state.head = end
            if state.count == 0 {
                state.queued.removeAll(keepingCapacity: state.queued.capacity <= limits.queuedEvents)
                state.head = 0
            } else if state.head > limits.queuedEvents {
                state.queued.removeFirst(state.head)
                state.head = 0
            }
            return (batch, state.count)
        }
        Gauge(label: "ingest_queue_events").record(depth)
        return batch
    }

    private func write(_ batch: [QueuedItem], lockedUsers: EventWriter.LockedUsers = .tryAgain) async {
        let clock = ContinuousClock()
        let start = clock.now
        do {
            let verdicts = try await writer.write(batch.map(\.item), lockedUsers: lockedUsers)
            var locked: [QueuedItem] = []
            for (queued, verdict) in zip(batch, verdicts) {
                if let verdict {
                    queued.submission.settle(queued.index, verdict)
                } else {
                    locked.append(queued)
                }
            }
            park(locked)
            Recorder(label: "ingest_batch_events").record(batch.count)
            Metrics.Timer(label: "ingest_commit_seconds").record(duration: clock.now - start)
        } catch {
            fail(batch, error)
        }
    }

    private func fail(_ batch: [QueuedItem], _ error: any Error) {
        if let error = error as? Installation.Mismatch {
            mismatch.withLock { $0 = error }
            close()
        }
        // Anything but temporary trouble goes up as it is, to be logged as an internal error and answered 5xx.
        let answer = (error as? PostgresError).flatMap(AppError.init) ?? error
        Counter(label: "ingest_failed_batches_total").increment()
        batch.forEach { $0.submission.fail(answer) }
    }

    private func park(_ locked: [QueuedItem]) {
        guard !locked.isEmpty else { return }
        state.withLock { $0.locked += locked }
        signals.last?.continuation.yield()
    }

    /// Tries the events of locked users again until each has had its attempts; then it is put aside.
    private func runLockedLane() async {
        guard let signal = signals.last else { return }
        for await _ in signal.stream {
            while await retryLocked() {}
        }
    }

    private func retryLocked() async -> Bool {
        let parked = state.withLock { state in
            defer { state.locked = [] }
            return state.locked
        }
        guard !parked.isEmpty else { return false }
        try? await Task.sleep(for: limits.lockedRetryInterval)
        let tried = parked.map { QueuedItem(submission: $0.submission, index: $0.index, attempts: $0.attempts + 1) }
        let exhausted = tried.filter { $0.attempts >= limits.lockedAttempts }
        let remaining = tried.filter { $0.attempts < limits.lockedAttempts }
        if !exhausted.isEmpty { await write(exhausted, lockedUsers: .quarantine) }
        if !remaining.isEmpty { await write(remaining) }
        return true
    }
}
