import Bootstrap
import Domain
import HTTPSupport

/// Bounds how often strangers may try: to log in, to register, and to learn whether an e-mail has an account.
///
/// Each attempt counts for its address, for the e-mail from this address, and for the e-mail from anywhere. An e-mail
/// alone has more attempts than from one address, so that one sender cannot lock its owner out.
struct LoginThrottle: Sendable {
    private struct Attempt: Hashable {
        let email: String
        let address: IPAddress?
    }

    private let addresses: AttemptLimiter<IPAddress>
    private let networks: AttemptLimiter<IPAddress>
    private let attempts: AttemptLimiter<Attempt>
    private let emails: AttemptLimiter<String>
    private let registrations: AttemptLimiter<IPAddress>
    private let users: AttemptLimiter<Int64>

    /// `rate` attempts a minute from one address, IPv6 /64; eight times as many from a /48, which one customer may
    /// have.
    init(rate: Int, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) {
        let minute = Duration.seconds(60)
        addresses = AttemptLimiter(burst: rate, interval: minute / rate, now: now)
        networks = AttemptLimiter(burst: 8 * rate, interval: minute / (8 * rate), now: now)
        attempts = AttemptLimiter(burst: 5, interval: minute / 5, now: now)
        emails = AttemptLimiter(burst: 20, interval: minute / 20, now: now)
        registrations = AttemptLimiter(burst: 30, interval: minute * 2, now: now)
        users = AttemptLimiter(burst: 10, interval: minute / 10, now: now)
    }

    /// Counts an attempt to log in as `email` from `address`.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests`.
    func admitLogin(_ email: String, from address: IPAddress?) throws {
        try refuse("login attempts", wait(for: email, from: address))
    }

    /// Counts an attempt to make an account for `email` from `address`; 30 an hour in the long run.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests`.
    func admitRegistration(_ email: String, from address: IPAddress?) throws {
        try refuse(
            "registration attempts",
            wait(for: email, from: address) ?? address.flatMap { registrations.wait(for: $0.customer) })
    }

    /// Counts an attempt of a user to take another e-mail: the answer says whether somebody has it.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests`.
    func admitChange(by user: Int64) throws {
        try refuse("changes of the e-mail", users.wait(for: user))
    }

    private func wait(for email: String, from address: IPAddress?) -> Int? {
        let email = email.lowercased()
        if let address {
            if let seconds = addresses.wait(for: address.customer) { return seconds }
            let isV6 = address.bytes.count == 16
            if isV6, let seconds = networks.wait(for: address.network(48)) { return seconds }
        }
        return attempts.wait(for: Attempt(email: email, address: address?.customer)) ?? emails.wait(for: email)
    }

    private func refuse(_ what: String, _ seconds: Int?) throws {
        guard let seconds else { return }
        throw AppError(
            .tooManyRequests, "Too many \(what). Please try again in \(seconds) seconds.", retryAfter: seconds)
    }
}
