import Domain
import Synchronization

/// One request's items in the queue, waiting for all their verdicts.
final class Submission: Sendable {
    private struct State {
        var verdicts: [Verdict?]
        var missing: Int
        var isAnswered = false
    }

    let items: [IngestItem]
    let weight: Int
    /// Whether its items may be stored by several transactions. Not with nameless events among them: when a later one fails,
    /// the whole body is sent again, and what was stored would count twice.
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

    /// Answers the waiter when the last verdict is there.
    func settle(_ index: Int, _ verdict: Verdict) {
        let verdicts: [Verdict]? = state.withLock { state in
            if state.verdicts[index] == nil { state.missing -= 1 }
            state.verdicts[index] = verdict
            guard state.missing == 0, !state.isAnswered else { return nil }
            state.isAnswered = true
            return state.verdicts.compactMap { $0 }
        }
        if let verdicts { answer(self, .success(verdicts)) }
    }

    /// Fails the waiter; what was committed for it already is found again when the same body is sent again.
    func fail(_ error: any Error) {
        let isFirst = state.withLock { state in
            defer { state.isAnswered = true }
            return !state.isAnswered
        }
        if isFirst { answer(self, .failure(error)) }
    }
}

/// One item's place in the queue.
struct QueuedItem: Sendable {
    let submission: Submission
    let index: Int
    /// How often its user was found locked.
    var attempts = 0

    var item: IngestItem { submission.items[index] }
}
