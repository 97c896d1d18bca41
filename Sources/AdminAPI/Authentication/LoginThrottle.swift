import Bootstrap
import Domain
import HTTPSupport

/// Bounds how often somebody may try to log in: 5 times a minute for each e-mail and address.
struct LoginThrottle: Sendable {
    private struct Attempt: Hashable {
        let email: String
        let address: IPAddress?
    }

    private let limiter: RateLimiter<Attempt>

    init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        limiter = RateLimiter(rate: 5.0 / 60, burst: 5, now: now)
    }

    /// Counts an attempt to log in as `email` from `address`.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests`.
    func admit(_ email: String, from address: IPAddress?) throws {
        let attempt = Attempt(email: String(email.lowercased().prefix(255)), address: address?.customer)
        guard let seconds = limiter.wait(for: attempt) else { return }
        throw AppError(
            .tooManyRequests, "Too many login attempts. Please try again in \(seconds) seconds.", retryAfter: seconds)
    }
}
