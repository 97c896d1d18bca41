import Domain
import Synchronization

/// One request's items in the queue, waiting for all their verdicts.
final class Submission: Sendable {
    private struct State {
        var verdicts: [Verdict?]
        var missing: Int
        var continuation: CheckedContinuation<[Verdict], any Error>?
    }

    let items: [IngestItem]
    private let state: Mutex<State>

    init(_ items: [IngestItem], _ continuation: CheckedContinuation<[Verdict], any Error>) {
        self.items = items
        state = Mutex(
            State(
                verdicts: Array(repeating: nil, count: items.count), missing: items.count, continuation: continuation))
    }

    /// Answers the waiter when the last verdict is there.
    func settle(_ index: Int, _ verdict: Verdict) {
        let answer: (CheckedContinuation<[Verdict], any Error>, [Verdict])? = state.withLock { state in
            if state.verdicts[index] == nil { state.missing -= 1 }
            state.verdicts[index] = verdict
            guard state.missing == 0, let continuation = state.continuation else { return nil }
            state.continuation = nil
            return (continuation, state.verdicts.compactMap { $0 })
        }
        if let (continuation, verdicts) = answer { continuation.resume(returning: verdicts) }
    }

    /// Fails the waiter; what was committed for it already is found again when the same body is sent again.
    func fail(_ error: any Error) {
        let continuation = state.withLock { state in
            defer { state.continuation = nil }
            return state.continuation
        }
        continuation?.resume(throwing: error)
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
