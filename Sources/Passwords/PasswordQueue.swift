internal import Dispatch
internal import Synchronization

/// Hashes passwords one after the other on a thread of its own, so that logins never stop the rest of the server.
///
/// Clients take turns. So a client that sends many passwords delays each other client by only one. When the queue is
/// full, the client with the most passwords loses its last one to a client with fewer.
package final class PasswordQueue: Sendable {
    /// More passwords wait than ``PasswordQueue/init(limit:)`` allows; the caller answers 503.
    package struct Busy: Error, Equatable {}

    private struct Job: Sendable {
        let id: Int
        let work: @Sendable () -> Void
        let refuse: @Sendable (any Error) -> Void
    }

    private struct State {
        var nextID = 0
        var count = 0
        var jobs: [String: [Job]] = [:]
        /// The clients that have jobs, in the order of their turns.
        var turns: [String] = []
        var isWorking = false
        /// Jobs that were cancelled before they were queued.
        var cancelled: Set<Int> = []

        mutating func add(_ job: Job, of client: String) {
            if jobs[client] == nil { turns.append(client) }
            jobs[client, default: []].append(job)
            count += 1
        }

        mutating func next() -> Job? {
            guard let client = turns.first, let job = jobs[client]?.first else { return nil }
            turns.removeFirst()
            jobs[client]?.removeFirst()
            if jobs[client]?.isEmpty == false { turns.append(client) } else { jobs[client] = nil }
            count -= 1
            return job
        }

        mutating func remove(_ id: Int, of client: String) -> Job? {
            guard let index = jobs[client]?.firstIndex(where: { $0.id == id }) else { return nil }
            let job = jobs[client]?.remove(at: index)
            if jobs[client]?.isEmpty == true {
                jobs[client] = nil
                turns.removeAll { $0 == client }
            }
            count -= 1
            return job
        }

        /// Removes the last job of the client with the most, if it has more than `client` will have.
        mutating func displace(for client: String) -> Job? {
            guard let most = jobs.max(by: { $0.value.count < $1.value.count }),
                most.value.count > (jobs[client]?.count ?? 0) + 1, let last = most.value.last
            else { return nil }
            return remove(last.id, of: most.key)
        }
    }

    private let limit: Int
    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "passwords", qos: .utility)

    /// A queue that refuses work instead of keeping more than `limit` passwords, each a quarter of a second of CPU.
    package init(limit: Int = 48) {
        self.limit = limit
    }

    /// The `$2y$` hash of `password`, for `client`.
    /// - Throws: ``Busy``, ``Password/Problem``, `CancellationError`
    package func hash(_ password: String, cost: UInt = 12, for client: String) async throws -> String {
        try await run(for: client) { try Password.hash(password, cost: cost) }
    }

    /// Whether `password` is the one `hash` was made of, for `client`; as ``Password/verify(_:against:cost:)``.
    /// - Throws: ``Busy``, `CancellationError`
    package func verify(
        _ password: String, against hash: String?, cost: UInt = 12, for client: String
    ) async throws -> Bool {
        try await run(for: client) { Password.verify(password, against: hash, cost: cost) }
    }

    /// The result of `work`, which runs when it is the turn of `client`.
    /// - Throws: ``Busy``, `CancellationError`; what `work` throws.
    package func run<T: Sendable>(for client: String, _ work: @escaping @Sendable () throws -> T) async throws -> T {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                enqueue(
                    Job(
                        id: id, work: { continuation.resume(with: Result { try work() }) },
                        refuse: { continuation.resume(throwing: $0) }),
                    of: client)
            }
        } onCancel: {
            let job = state.withLock { state in
                if let job = state.remove(id, of: client) { return job as Job? }
                state.cancelled.insert(id)
                return nil
            }
            job?.refuse(CancellationError())
        }
    }

    private func enqueue(_ job: Job, of client: String) {
        let (refused, error, starts): (Job?, any Error, Bool) = state.withLock { state in
            if state.cancelled.remove(job.id) != nil { return (job, CancellationError(), false) }
            var displaced: Job?
            if state.count >= limit {
                displaced = state.displace(for: client)
                guard displaced != nil else { return (job, Busy(), false) }
            }
            state.add(job, of: client)
            defer { state.isWorking = true }
            return (displaced, Busy(), !state.isWorking)
        }
        refused?.refuse(error)
        if starts { queue.async { self.workOff() } }
    }

    private func workOff() {
        while let job = state.withLock({ state in
            let job = state.next()
            state.isWorking = job != nil
            return job
        }) {
            job.work()
            state.withLock { _ = $0.cancelled.remove(job.id) }
        }
    }
}
