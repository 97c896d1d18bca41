package import Domain
import Synchronization

/// How often a piece of recurring work may begin: never more often than `interval`, and never so often that it takes
/// more than a twentieth of the time, however large the tables grow.
package final class Throttle: Sendable {
    private struct State {
        var next = Timestamp(microseconds: .min)
        var lastBegin = Timestamp(microseconds: .min)
    }

    private let interval: Duration
    private let state = Mutex(State())

    package init(every interval: Duration) {
        self.interval = interval
    }

    /// Does the work if it is due; the next time is at least twenty times its duration away.
    package func whenDue<T>(at now: Timestamp, _ work: () throws -> T) rethrows {
        guard begins(at: now) else { return }
        let start = ContinuousClock.now
        do {
            _ = try work()
            end(took: ContinuousClock.now - start)
        } catch {
            fail(after: ContinuousClock.now - start)
            throw error
        }
    }

    /// Does the work if it is due; the next time is at least twenty times its duration away.
    package func whenDue<T>(
        at now: Timestamp, isolation: isolated (any Actor)? = #isolation, _ work: () async throws -> T
    ) async rethrows {
        guard begins(at: now) else { return }
        let start = ContinuousClock.now
        do {
            _ = try await work()
            end(took: ContinuousClock.now - start)
        } catch {
            fail(after: ContinuousClock.now - start)
            throw error
        }
    }

    private func begins(at now: Timestamp) -> Bool {
        state.withLock { state in
            // A clock that was set back must not stop the work until it catches up.
            guard state.next <= now || now < state.lastBegin else { return false }
            state.lastBegin = now
            state.next = now.advanced(by: interval)
            return true
        }
    }

    /// What failed is due without the interval, but what failed slowly not soon.
    private func fail(after duration: Duration) {
        state.withLock { $0.next = $0.lastBegin.advanced(by: duration * 20) }
    }

    private func end(took duration: Duration) {
        state.withLock { state in
            state.next = max(state.next, state.lastBegin.advanced(by: duration * 20))
        }
    }
}
