package import Domain
import Metrics
import Postgres
import ServiceLifecycle
import Synchronization

/// Commits the waiting events of all requests in one transaction, then answers these requests
/// (`docs/architecture.md`).
///
/// It needs no timer: while one transaction commits, the next batch gathers. Under a backlog a second writer begins, so
/// that one computes while the other waits for the disk. Without a backlog, two writers would only make two small
/// batches of one. Events of locked users wait in a lane of their own, so that no other event waits for them.
package final class GroupCommit: Service, Sendable {
    /// The bounds of the queue.
    package struct Limits: Sendable {
        /// The most events that are not answered yet. An event with long texts counts as several. With more, a request
        /// is answered 503.
        package var queuedEvents: Int
        /// The most events of one transaction.
        package var batchEvents: Int
        /// The most transactions at once.
        package var writers: Int
        /// The number of waiting events at which each further writer begins.
        package var backlogEvents: Int
        /// The pause between two attempts for an event of a locked user.
        package var lockedRetryInterval: Duration
        /// The number of attempts after which such an event is quarantined.
        package var lockedAttempts: Int

        /// Bounds with these values.
        package init(
            queuedEvents: Int = 20_000, batchEvents: Int = 1_000, writers: Int = 2, backlogEvents: Int = 20,
            lockedRetryInterval: Duration = .milliseconds(50), lockedAttempts: Int = 5
        ) {
            self.queuedEvents = queuedEvents
            self.batchEvents = batchEvents
            self.writers = writers
            self.backlogEvents = backlogEvents
            self.lockedRetryInterval = lockedRetryInterval
            self.lockedAttempts = lockedAttempts
        }
    }

    private let writer: EventWriter
    private let limits: Limits
    private let queue = Mutex(EventQueue())
    /// Signals writer `i`; the last signal is for the lane of locked users.
    private let signals: [(stream: AsyncStream<Void>, continuation: AsyncStream<Void>.Continuation)]
    private let depthGauge = Gauge(label: "ingest_queue_events")
    private let batchRecorder = Recorder(label: "ingest_batch_events")
    private let commitTimer = Metrics.Timer(label: "ingest_commit_seconds")
    private let mismatch = Mutex<Installation.Mismatch?>(nil)

    /// A queue in front of `writer`.
    package init(writer: EventWriter, limits: Limits = Limits()) {
        self.writer = writer
        self.limits = limits
        signals = (0...limits.writers).map { _ in AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }
    }

    /// Events that wait for a writer.
    package var depth: Int { queue.withLock(\.depth) }

    /// Events that wait for the end of a lock on their user.
    package var lockedDepth: Int { queue.withLock(\.locked.count) }

    /// The verdicts of `items`, in order, after their COMMIT.
    ///
    /// - Throws: ``AppError`` `.unavailable` when the queue is full, the service stops, or the database is unavailable.
    ///   Nothing was acknowledged then.
    package func submit(_ items: [IngestItem]) async throws -> [Verdict] {
        guard !items.isEmpty else { return [] }
        return try await withCheckedThrowingContinuation { continuation in
            submit([Submission(items, ticket: 0, receiver: Waiter(continuation))])
        }
    }

    /// Queues submissions, and lets their receivers know what becomes of them, after COMMIT. Those that do not fit fail
    /// at once.
    package func submit(_ submissions: [Submission]) {
        var refused = AnswerBatch()
        let depth = queue.withLock { queue in
            for submission in submissions where !queue.add(submission, limit: limits.queuedEvents) {
                refused.add(
                    submission,
                    submission.fail(
                        AppError(.unavailable, "Too many events wait. Send the same request again.", retryAfter: 1)))
            }
            return queue.depth
        }
        if depth > 0 { signalWriters(depth) }
        refused.send()
    }

    /// Writes until the service is asked to stop and every accepted request is answered.
    ///
    /// - Throws: ``Installation/Mismatch`` when Laravel's tables belong to another installation.
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
        // The last batch may have left events of locked users.
        while await retryLocked() {}
        if let mismatch = mismatch.withLock({ $0 }) { throw mismatch }
    }

    private func close() {
        queue.withLock { $0.close() }
        signals.forEach { $0.continuation.finish() }
    }

    /// Signals the writers that have work at this `depth`.
    private func signalWriters(_ depth: Int) {
        for (index, signal) in signals.dropLast().enumerated() where depth > index * limits.backlogEvents {
            signal.continuation.yield()
        }
    }

    /// Writer 0 takes all waiting events. Writer `n` works only when the backlog is `n` times the bound.
    private func runWriter(_ index: Int) async {
        for await _ in signals[index].stream {
            while let batch = takeBatch(leaving: index * limits.backlogEvents) { await write(batch) }
        }
        // After the signal to stop, accepted requests are still answered.
        while let batch = takeBatch(leaving: 0) { await write(batch) }
    }

    private func takeBatch(leaving backlog: Int) -> [QueuedItem]? {
        let (batch, depth) = queue.withLock { queue in
            (queue.nextBatch(leaving: backlog, of: limits.batchEvents), queue.depth)
        }
        depthGauge.record(depth)
        return batch
    }

    private func write(_ batch: [QueuedItem], lockedUsers: EventWriter.LockedUsers = .tryAgain) async {
        let clock = ContinuousClock()
        let start = clock.now
        do {
            let written = try await writer.writeEach(batch.map(\.item), lockedUsers: lockedUsers)
            var rest: [QueuedItem] = []
            var answers = AnswerBatch()
            for (queued, verdict) in zip(batch, written.verdicts) {
                if let verdict {
                    answers.add(queued.submission, queued.submission.deliver(queued.index, verdict))
                } else {
                    rest.append(queued)
                }
            }
            send(answers)
            if let failure = written.failure { fail(rest, failure) } else { park(rest) }
            batchRecorder.record(batch.count)
            commitTimer.record(duration: clock.now - start)
        } catch {
            fail(batch, error)
        }
    }

    private func fail(_ batch: [QueuedItem], _ error: any Error) {
        if let error = error as? Installation.Mismatch {
            mismatch.withLock { $0 = error }
            close()
        }
        let answer = Self.answer(to: error)
        Counter(label: "ingest_failed_batches_total").increment()
        var answers = AnswerBatch()
        for queued in batch { answers.add(queued.submission, queued.submission.fail(answer)) }
        send(answers)
    }

    /// Frees the room of answered submissions, and sends their answers.
    private func send(_ answers: AnswerBatch) {
        queue.withLock { queue in answers.submissions.forEach { queue.remove($0) } }
        answers.send()
    }

    /// The error for the client. An error that is not temporary stays as it is, is logged, and is answered 5xx.
    private static func answer(to error: any Error) -> any Error {
        switch error {
        case let error as PostgresError: AppError(error) ?? error
        case is Installation.Mismatch: AppError(.unavailable, "The service stops: ask its operator.", retryAfter: 30)
        default: error
        }
    }

    private func park(_ locked: [QueuedItem]) {
        guard !locked.isEmpty else { return }
        queue.withLock { $0.park(locked) }
        signals.last?.continuation.yield()
    }

    /// Tries the events of locked users again. After its last attempt an event is quarantined.
    private func runLockedLane() async {
        guard let signal = signals.last else { return }
        for await _ in signal.stream {
            while await retryLocked() {}
        }
    }

    private func retryLocked() async -> Bool {
        let parked = queue.withLock { $0.takeLocked(limits.batchEvents) }
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

/// A task that waits for the answer to one submission.
private final class Waiter: AnswerReceiver {
    private let continuation: CheckedContinuation<[Verdict], any Error>

    init(_ continuation: CheckedContinuation<[Verdict], any Error>) {
        self.continuation = continuation
    }

    func receive(_ answers: [Submission.Answer]) {
        for answer in answers { continuation.resume(with: answer.result) }
    }
}
