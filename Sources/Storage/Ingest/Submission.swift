package import Domain
internal import Synchronization

/// Gets the answers to the submissions of one sender, such as those of one event loop.
package protocol AnswerReceiver: AnyObject, Sendable {
    /// Takes the answers that one transaction made, on any thread.
    func receive(_ answers: [Submission.Answer])
}

/// The items of one request, which waits for all their verdicts.
package final class Submission: Sendable {
    /// The verdicts of all items, or the reason why there are none.
    package typealias Result = Swift.Result<[Verdict], any Error>

    /// What became of a submission.
    package struct Answer: Sendable {
        /// The ticket of the submission.
        package let ticket: Int
        /// The verdicts in the order of the items.
        package let result: Result
    }

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
    let ticket: Int
    let receiver: any AnswerReceiver
    private let state: Mutex<State>

    /// - Parameters:
    ///   - items: The items, at least one.
    ///   - ticket: The receiver's name for them.
    ///   - receiver: Gets the answer, once.
    package init(_ items: [IngestItem], ticket: Int, receiver: any AnswerReceiver) {
        isDivisible = items.count == 1 || items.allSatisfy(\.isIdempotent)
        self.items = isDivisible ? items : items.map(\.withoutWaiting)
        self.ticket = ticket
        self.receiver = receiver
        weight = items.reduce(0) { $0 + $1.weight }
        state = Mutex(State(verdicts: Array(repeating: nil, count: items.count), missing: items.count))
    }

    /// Records a verdict. Returns the result with the last one.
    func deliver(_ index: Int, _ verdict: Verdict) -> Result? {
        state.withLock { state in
            if state.verdicts[index] == nil { state.missing -= 1 }
            state.verdicts[index] = verdict
            guard state.missing == 0, !state.isAnswered else { return nil }
            state.isAnswered = true
            return .success(state.verdicts.compactMap(\.self))
        }
    }

    /// Fails the request, unless it is answered. When its body is sent again, the events that were committed are
    /// duplicates.
    func fail(_ error: any Error) -> Result? {
        state.withLock { state in
            defer { state.isAnswered = true }
            return state.isAnswered ? nil : .failure(error)
        }
    }
}

/// The answers that one transaction made, so that each receiver is called once.
struct AnswerBatch {
    private(set) var submissions: [Submission] = []
    private var receivers: [(receiver: any AnswerReceiver, answers: [Submission.Answer])] = []
    private var indices: [ObjectIdentifier: Int] = [:]

    /// Adds the result of a submission, if it has one.
    mutating func add(_ submission: Submission, _ result: Submission.Result?) {
        guard let result else { return }
        submissions.append(submission)
        let answer = Submission.Answer(ticket: submission.ticket, result: result)
        let id = ObjectIdentifier(submission.receiver)
        if let index = indices[id] {
            receivers[index].answers.append(answer)
        } else {
            indices[id] = receivers.count
            receivers.append((submission.receiver, [answer]))
        }
    }

    func send() {
        for (receiver, answers) in receivers { receiver.receive(answers) }
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
