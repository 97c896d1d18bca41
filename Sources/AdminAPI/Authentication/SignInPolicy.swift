import Bootstrap
import Domain
import HTTPSupport
import Passwords
import Storage
import Synchronization

/// What strangers may try, and how passwords are worked on.
struct SignInPolicy: Sendable {
    let registration: Registration.Mode
    let throttle: LoginThrottle
    let passwords: PasswordQueue
    /// The binary logarithm of the rounds.
    let passwordCost: UInt
    /// Of the tokens that they get.
    var tokenForm = AccessToken.Form.standard

    /// The hash of `password`, in the turn of who sends it.
    ///
    /// - Throws: ``AppError`` `.unavailable`; ``ValidationError`` for a password that cannot be one.
    func hash(_ password: String, for request: APIRequest) async throws -> String {
        try await mapping { try await passwords.hash(password, cost: passwordCost, for: request.client) }
    }

    /// Whether `password` is the one of `hash`, in the turn of who sends it. Without a hash it takes as long.
    ///
    /// - Throws: ``AppError`` `.unavailable`.
    func verify(_ password: String, against hash: String?, for request: APIRequest) async throws -> Bool {
        try await mapping {
            try await passwords.verify(password, against: hash, cost: passwordCost, for: request.client)
        }
    }

    private func mapping<T>(_ work: () async throws -> T) async throws -> T {
        do {
            return try await work()
        } catch is PasswordQueue.Busy {
            throw AppError(.unavailable, "Too many logins at once. Try again.", retryAfter: 1)
        } catch is Password.Problem {
            throw ValidationError("password", "The password field must be a string.")
        }
    }
}

extension APIRequest {
    /// Whose turn it is where clients take turns.
    fileprivate var client: String { context.clientAddress.map { "\($0.customer)" } ?? "local" }
}

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

/// Bounds how often something is tried: `burst` times at once, in the long run once in each `interval`.
///
/// Any number of keys share a table of fixed size, of which nothing is ever forgotten before its time: whoever fills it
/// with other keys restores none. Each key has a cell in each of four rows, and the earliest of the four counts. So a
/// key is only refused for another's attempts where all four of its cells are also those of keys that were tried
/// lately.
final class AttemptLimiter<Key: Hashable & Sendable>: Sendable {
    private let interval: Int64
    private let tolerance: Int64
    private let columns: Int
    private let start: ContinuousClock.Instant
    private let now: @Sendable () -> ContinuousClock.Instant
    /// For each cell when the attempts so far are paid for, in microseconds since the start, at one for each interval
    /// (ITU-T I.371, "generic cell rate algorithm").
    private let cells: Mutex<[Int64]>

    private static var rows: Int { 4 }

    init(
        burst: Int, interval: Duration, columns: Int = 1 << 14, now: @escaping @Sendable () -> ContinuousClock.Instant
    ) {
        self.interval = Int64(interval / .microseconds(1))
        tolerance = self.interval * Int64(burst - 1)
        self.columns = columns
        self.now = now
        start = now()
        cells = Mutex(Array(repeating: 0, count: Self.rows * columns))
    }

    /// Counts an attempt of `key`: `nil` where it may be made, else the seconds, at least 1, until one may be.
    func wait(for key: Key) -> Int? {
        let places = (0..<Self.rows).map { row in
            // Seeded anew by each process: nobody knows beforehand which keys share a cell.
            var hasher = Hasher()
            hasher.combine(row)
            hasher.combine(key)
            return row * columns + Int(UInt(bitPattern: hasher.finalize()) % UInt(columns))
        }
        let time = Int64((now() - start) / .microseconds(1))
        return cells.withLock { cells in
            let paid = max(time, places.map { cells[$0] }.min() ?? 0)
            let excess = paid - time - tolerance
            guard excess <= 0 else { return Int((excess + 999_999) / 1_000_000) }
            for place in places { cells[place] = max(cells[place], paid + interval) }
            return nil
        }
    }
}
