extension ConnectionPool {
    /// A session for the caller alone, opened if need be; it comes back through `perform`.
    ///
    /// Throws `PostgresError` of kind `leaseTimeout`, `connectFailed`, `cancelled` or `poolClosed`.
    func lease() async throws -> ConnectionSession {
        let waiter = update { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        let lease = try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { enqueue($0, as: waiter) }
        } onCancel: {
            fail(waiter, with: PostgresError(.cancelled, "cancelled while waiting for a connection"))
        }
        switch lease {
        case .use(let session): return session
        case .open: return try await open()
        }
    }

    /// Takes a step of the state machine and does what it says; `error` is for the waiters that it gives up.
    func perform(
        failingWith error: PostgresError = PostgresError(.poolClosed, "the pool is closed"),
        _ step: (inout StateMachine) -> StateMachine.Actions
    ) async {
        var retired = resume(failingWith: error, step)
        while let session = retired.popLast() {
            await session.close()
            retired += resume(failingWith: error) { $0.closed() }
        }
    }

    private func enqueue(_ continuation: CheckedContinuation<StateMachine.Lease, any Error>, as waiter: Int) {
        let answer: Result<StateMachine.Lease, any Error>? = update { state in
            guard !state.machine.isClosed else { return .failure(PostgresError(.poolClosed, "the pool is closed")) }
            // Checked under the lock, which the cancellation handler takes too: one of the two sees the other.
            guard !Task.isCancelled else { return .failure(PostgresError(.cancelled, "cancelled before the lease")) }
            if let lease = state.machine.lease(waiter) {
                return .success(lease)
            }
            let deadline = Task {
                guard (try? await Task.sleep(for: limits.leaseDeadline)) != nil else { return }
                fail(waiter, with: PostgresError(.leaseTimeout, "no connection within \(limits.leaseDeadline)"))
            }
            state.waiters[waiter] = Waiter(continuation: continuation, deadline: deadline)
            return nil
        }
        if let answer {
            continuation.resume(with: answer)
        }
    }

    private func fail(_ waiter: Int, with error: PostgresError) {
        let failed = update { state in
            state.machine.removeWaiter(waiter) ? state.waiters.removeValue(forKey: waiter) : nil
        }
        failed?.deadline.cancel()
        failed?.continuation.resume(throwing: error)
    }

    private func open() async throws -> ConnectionSession {
        let expiry = ContinuousClock.now + limits.maxLifetime * Double.random(in: 0.9...1)
        do {
            let session = try ConnectionSession(configuration, expiry: expiry, logger: logger)
            do {
                try await session.open()
            } catch {
                await session.close()
                throw error
            }
            await perform { $0.opened() }
            return session
        } catch {
            let failure = error as? PostgresError ?? PostgresError(.connectFailed, "cannot connect")
            await perform(failingWith: failure) { $0.openFailed() }
            throw failure
        }
    }

    /// Takes a step and answers the waiters it names; the sessions to close.
    private func resume(
        failingWith error: PostgresError, _ step: (inout StateMachine) -> StateMachine.Actions
    ) -> [ConnectionSession] {
        let (actions, granted, failed, closers) = update { state in
            let actions = step(&state.machine)
            let granted = actions.granted.map { (state.waiters.removeValue(forKey: $0.waiter), $0.lease) }
            let failed = actions.failed.map { state.waiters.removeValue(forKey: $0) }
            var closers: [CheckedContinuation<Void, Never>] = []
            if actions.isDrained {
                swap(&closers, &state.closers)
            }
            return (actions, granted, failed, closers)
        }
        for (waiter, lease) in granted {
            waiter?.deadline.cancel()
            waiter?.continuation.resume(returning: lease)
        }
        for waiter in failed {
            waiter?.deadline.cancel()
            waiter?.continuation.resume(throwing: error)
        }
        for closer in closers {
            closer.resume()
        }
        return actions.retired
    }
}
