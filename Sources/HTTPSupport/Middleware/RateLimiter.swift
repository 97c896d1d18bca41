internal import Synchronization

/// A token bucket for each client: `burst` requests at once, `rate` a second in the long run.
///
/// Memory is bounded: there are two generations of
/// at most `capacity` buckets, and when the young one is full, the old one is forgotten. A forgotten client starts with a
/// full bucket, so a flood of addresses errs on the side of letting requests in.
package final class RateLimiter<Client: Hashable & Sendable>: Sendable {
    private struct Bucket {
        var tokens: Double
        var updated: ContinuousClock.Instant
    }

    private struct Generations {
        var young: [Client: Bucket] = [:]
        var old: [Client: Bucket] = [:]
    }

    private let rate: Double
    private let burst: Double
    private let capacity: Int
    private let now: @Sendable () -> ContinuousClock.Instant
    private let generations = Mutex(Generations())

    /// - Parameters:
    ///   - rate: Requests a second, above 0.
    ///   - burst: Requests at once, at least 1.
    ///   - capacity: Clients in one generation.
    ///   - now: The time.
    package init(
        rate: Double, burst: Int, capacity: Int = 10_000,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.rate = rate
        self.burst = Double(burst)
        self.capacity = capacity
        self.now = now
    }

    /// Takes a token of `client`: `nil` if there was one, else the seconds, at least 1, until there will be one.
    package func wait(for client: Client) -> Int? {
        let now = now()
        return generations.withLock { generations in
            var bucket =
                generations.young[client] ?? generations.old[client] ?? Bucket(tokens: burst, updated: now)
            bucket.tokens = min(burst, bucket.tokens + (now - bucket.updated) / .seconds(1) * rate)
            bucket.updated = now
            let isAdmitted = bucket.tokens >= 1
            if isAdmitted { bucket.tokens -= 1 }
            if generations.young[client] == nil, generations.young.count >= capacity {
                generations = Generations(old: generations.young)
            }
            generations.young[client] = bucket
            return isAdmitted ? nil : max(1, Int(((1 - bucket.tokens) / rate).rounded(.up)))
        }
    }

    /// How many clients are remembered.
    var count: Int { generations.withLock { $0.young.count + $0.old.count } }
}
