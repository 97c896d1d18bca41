internal import Dispatch
internal import Synchronization

/// Hashes passwords one after the other on a thread of its own, so that logins never stop the rest of the server.
package final class PasswordQueue: Sendable {
    /// More passwords wait than ``PasswordQueue/init(limit:)`` allows; the caller answers 503.
    package struct Busy: Error, Equatable {}

    private let limit: Int
    private let waiting = Mutex(0)
    private let queue = DispatchQueue(label: "passwords", qos: .utility)

    /// A queue that refuses work instead of keeping more than `limit` passwords, each a quarter of a second of CPU.
    package init(limit: Int = 16) {
        self.limit = limit
    }

    /// The `$2y$` hash of `password`.
    /// - Throws: ``Busy``, ``Password/Problem``
    package func hash(_ password: String, cost: UInt = 12) async throws -> String {
        try await run { try Password.hash(password, cost: cost) }
    }

    /// Whether `password` is the one `hash` was made of.
    /// - Throws: ``Busy``
    package func verify(_ password: String, against hash: String) async throws -> Bool {
        try await run { Password.verify(password, against: hash) }
    }

    private func run<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
        let admitted = waiting.withLock { count in
            guard count < limit else { return false }
            count += 1
            return true
        }
        guard admitted else { throw Busy() }
        return try await withCheckedThrowingContinuation { continuation in
            queue.async {
                let result = Result { try work() }
                self.waiting.withLock { $0 -= 1 }
                continuation.resume(with: result)
            }
        }
    }
}
