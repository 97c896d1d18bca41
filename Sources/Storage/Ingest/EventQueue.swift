/// The events that wait for a writer, and the bound on all that are not answered yet.
struct EventQueue {
    private var waiting: [QueuedItem] = []
    /// Position of the first item in `waiting` that no writer took.
    private var head = 0
    /// Events of users whose row is locked.
    private(set) var locked: [QueuedItem] = []
    /// Weight of everything that was taken in and not answered: waiting, being written, or locked.
    private var weight = 0
    private var isClosed = false

    /// Events that wait for a writer.
    var depth: Int { waiting.count - head }

    /// Takes a submission in; false when it does not fit, or the queue is closed. One larger than the whole queue is taken when
    /// there is nothing else.
    mutating func add(_ submission: Submission, limit: Int) -> Bool {
        guard !isClosed, weight == 0 || weight + submission.weight <= limit else { return false }
        weight += submission.weight
        waiting += submission.items.indices.map { QueuedItem(submission: submission, index: $0) }
        return true
    }

    /// Gives the place of an answered submission free.
    mutating func remove(_ submission: Submission) {
        weight -= submission.weight
    }

    mutating func close() {
        isClosed = true
    }

    /// The next items for one transaction, if more than `backlog` wait; a submission that must not be divided is whole.
    mutating func nextBatch(leaving backlog: Int, of size: Int) -> [QueuedItem]? {
        guard depth > backlog else { return nil }
        var end = head + min(depth, size)
        while end < waiting.count, waiting[end].submission === waiting[end - 1].submission,
            !waiting[end].submission.isDivisible
        { end += 1 }
        let batch = Array(waiting[head..<end])
        head = end
        // Now and then, so that taking is constant time and what was taken is let go.
        if head > waiting.count / 2 {
            waiting.removeFirst(head)
            head = 0
        }
        return batch
    }

    mutating func park(_ items: [QueuedItem]) {
        locked += items
    }

    /// The locked users' items, once more, at most `size` of them.
    mutating func takeLocked(_ size: Int) -> [QueuedItem] {
        let taken = Array(locked.prefix(size))
        locked.removeFirst(taken.count)
        return taken
    }
}
