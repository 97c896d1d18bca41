package import Domain
import Metrics
import Postgres
import ServiceLifecycle
import Synchronization

/// The items of one request, which waits for all their verdicts.
final class Submission: Sendable {
    private struct State {
        var verdicts: [Verdict?]
        var missing: Int
        var isAnswered = false
    }

    let items: [IngestItem]
    let weight: Int
    /// Whether several transactions may store its items. They must not if an event has no idempotency key: when a later
    /// transaction fails, the whole body is sent again, and that event would count twice.
    let isDivisible: Bool
    private let state: Mutex<State>
    private let answer: @Sendable (Submission, Result<[Verdict], any Error>) -> Void

    /// `answer` is called once, with the verdicts of all items or the reason why there are none.
    init(_ items: [IngestItem], answer: @escaping @Sendable (Submission, Result<[Verdict], any Error>) -> Void) {
        isDivisible = items.count == 1 || items.allSatisfy(\.isIdempotent)
        self.items = isDivisible ? items : items.map(\.withoutWaiting)
        self.answer = answer
        weight = items.reduce(0) { $0 + $1.weight }
        state = Mutex(State(verdicts: Array(repeating: nil, count: items.count), missing: items.count))
    }

    /// Records a verdict, and answers the request after the last one.
    func deliver(_ index: Int, _ verdict: Verdict) {
        let verdicts: [Verdict]? = state.withLock { state in
            if state.verdicts[index] == nil { state.missing -= 1 }
            state.verdicts[index] = verdict
            guard state.missing == 0, !state.isAnswered else { return nil }
            state.isAnswered = true
            return state.verdicts.compactMap { $0 }
        }
        if let verdicts { answer(self, .success(verdicts)) }
    }

    /// Fails the request. When its body is sent again, the events that were committed are duplicates.
    func fail(_ error: any Error) {
        let isFirst = state.withLock { state in
            defer { state.isAnswered = true }
            return !state.isAnswered
        }
        if isFirst { answer(self, .failure(error)) }
    }
}

/// One item in the queue.
struct QueuedItem: Sendable {
    let submission: Submission
    let index: Int
    /// How often its user was locked.
    var attempts = 0

    var item: IngestItem { submission.items[index] }
}

/// The events that wait for a writer, with a bound on all that are not answered yet.
struct EventQueue {
    private var waiting: [QueuedItem] = []
    /// The index in `waiting` of the first item that no writer has taken.
    private var head = 0
    /// Events of users whose row is locked.
    private(set) var locked: [QueuedItem] = []
    /// The weight of all items that are not answered: waiting, being written, or locked.
    private var weight = 0
    private var isClosed = false

    /// Events that wait for a writer.
    var depth: Int { waiting.count - head }

    /// Adds a submission. Returns false when it does not fit or the queue is closed. A submission larger than the whole
    /// queue fits when the queue is empty.
    mutating func add(_ submission: Submission, limit: Int) -> Bool {
        guard !isClosed, weight == 0 || weight + submission.weight <= limit else { return false }
        weight += submission.weight
        waiting += submission.items.indices.map { QueuedItem(submission: submission, index: $0) }
        return true
    }

    /// Frees the room of an answered submission.
    mutating func remove(_ submission: Submission) {
        weight -= submission.weight
    }

    mutating func close() {
        isClosed = true
    }

    /// The next items for one transaction, if more than `backlog` wait. An indivisible submission is taken whole.
    mutating func nextBatch(leaving backlog: Int, of size: Int) -> [QueuedItem]? {
        guard depth > backlog else { return nil }
        var end = head + min(depth, size)
        while end < waiting.count, waiting[end].submission === waiting[end - 1].submission,
            !waiting[end].submission.isDivisible
        { end += 1 }
        let batch = Array(waiting[head..<end])
        head = end
        // The array is compacted rarely, so that taking an item needs constant time and taken items are freed.
        if head > waiting.count / 2 {
            waiting.removeFirst(head)
            head = 0
        }
        return batch
    }

    mutating func park(_ items: [QueuedItem]) {
        locked += items
    }

    /// Takes at most `size` items of locked users, to try them once more.
    mutating func takeLocked(_ size: Int) -> [QueuedItem] {
        let taken = Array(locked.prefix(size))
        locked.removeFirst(taken.count)
        return taken
    }
}

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
            let submission = Submission(items) { [weak self] submission, answer in
                self?.queue.withLock { $0.remove(submission) }
                continuation.resume(with: answer)
            }
            let depth = queue.withLock { $0.add(submission, limit: limits.queuedEvents) ? $0.depth : nil }
            if let depth {
                signalWriters(depth)
            } else {
                continuation.resume(
                    throwing: AppError(
                        .unavailable, "Too many events wait. Send the same request again.", retryAfter: 1))
            }
        }
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
            let verdicts = try await writer.write(batch.map(\.item), lockedUsers: lockedUsers)
            var locked: [QueuedItem] = []
            for (queued, verdict) in zip(batch, verdicts) {
                if let verdict {
                    queued.submission.deliver(queued.index, verdict)
                } else {
                    locked.append(queued)
                }
            }
            park(locked)
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
        batch.forEach { $0.submission.fail(answer) }
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
