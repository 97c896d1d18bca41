internal import Synchronization

/// A value that tasks wait for until it is as they want it.
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

    /// Returns once `isSatisfied` holds, or false when `deadline` has passed before.
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
