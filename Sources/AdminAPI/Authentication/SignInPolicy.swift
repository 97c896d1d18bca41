import Bootstrap
import Domain
import HTTPSupport
import Passwords
import Storage
import Synchronization

/// Why an e-mail and a password sign nobody in.
enum SignInRefusal: Error {
    /// No account has both.
    case wrongCredentials
    /// The account is suspended.
    case suspended

    /// Laravel's error, in its words.
    var laravelError: ValidationError {
        switch self {
        case .wrongCredentials: ValidationError("email", "The provided credentials are incorrect.")
        case .suspended: ValidationError("email", "Your account has been suspended.")
        }
    }
}

/// How users register and log in: who may, how often, and how passwords are hashed.
struct SignInPolicy: Sendable {
    let registration: Registration.Mode
    let throttle: LoginThrottle
    let passwords: PasswordQueue
    /// The binary logarithm of the rounds of a password hash.
    let passwordCost: UInt
    /// The form of new tokens.
    var tokenForm = AccessToken.Form.standard

    /// The user with this `email` and `password`.
    ///
    /// - Throws: ``SignInRefusal`` when they fit no active user; ``AppError`` `.tooManyRequests`, `.unavailable`;
    ///   ``ValidationError`` when nobody can have the password.
    func user(
        email: String, password: String, from context: AppRequestContext, _ database: Database
    ) async throws -> UserProfile {
        try throttle.admitLogin(email, from: context.clientAddress)
        let found = try await database.read { try UserProfile.findForLogin(email: email, $0) }
        // An unknown e-mail takes as long as a wrong password, so that nobody learns who has an account.
        let isRight = try await verify(password, against: found?.passwordHash, for: context)
        guard let user = found?.user, isRight else { throw SignInRefusal.wrongCredentials }
        guard user.isActive else { throw SignInRefusal.suspended }
        return user
    }

    /// The hash of `password`. Clients take turns.
    ///
    /// - Throws: ``AppError`` `.unavailable` when too many passwords wait; ``ValidationError`` when the password cannot
    ///   be hashed.
    func hash(_ password: String, for client: AppRequestContext) async throws -> String {
        try await mapping { try await passwords.hash(password, cost: passwordCost, for: client.turn) }
    }

    /// Whether `password` fits `hash`. Clients take turns. Without a hash it takes as long as with one.
    ///
    /// - Throws: ``AppError`` `.unavailable` when too many passwords wait; ``ValidationError`` when the password cannot
    ///   be hashed.
    private func verify(
        _ password: String, against hash: String?, for client: AppRequestContext
    ) async throws -> Bool {
        try await mapping {
            try await passwords.verify(password, against: hash, cost: passwordCost, for: client.turn)
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

extension AppRequestContext {
    /// The key by which clients take turns.
    fileprivate var turn: String { clientAddress.map { "\($0.customer)" } ?? "local" }
}

/// Bounds attempts to log in, to register, and to learn whether an e-mail has an account.
///
/// Each attempt counts for its address, for the e-mail from this address, and for the e-mail from all addresses. The
/// e-mail has more attempts from all addresses than from one, so that one sender cannot lock the owner out.
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

    /// Allows `rate` attempts a minute from one address, or IPv6 /64, and eight times as many from a /48, which one
    /// customer may have.
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
    /// - Throws: ``AppError`` `.tooManyRequests` when there were too many attempts.
    func admitLogin(_ email: String, from address: IPAddress?) throws {
        try refuse("login attempts", wait(for: email, from: address))
    }

    /// Counts an attempt to register `email` from `address`. In the long run an address has 30 an hour.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests` when there were too many attempts.
    func admitRegistration(_ email: String, from address: IPAddress?) throws {
        try refuse(
            "registration attempts",
            wait(for: email, from: address) ?? address.flatMap { registrations.wait(for: $0.customer) })
    }

    /// Counts a user's attempt to change the e-mail. The answer reveals whether somebody has it.
    ///
    /// - Throws: ``AppError`` `.tooManyRequests` when there were too many attempts.
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

/// Bounds attempts: `burst` at once, and in the long run one in each `interval`.
///
/// All keys share a table of fixed size, in which no attempt is forgotten early. Filling it with other keys therefore
/// restores no attempts. Each key has one cell in each of four rows, and the earliest of the four counts. Another key's
/// attempts count only where all four cells are shared with recent keys.
final class AttemptLimiter<Key: Hashable & Sendable>: Sendable {
    private let interval: Int64
    private let tolerance: Int64
    private let columns: Int
    private let start: ContinuousClock.Instant
    private let now: @Sendable () -> ContinuousClock.Instant
    /// For each cell, the time when its attempts are paid for, in microseconds since the start (ITU-T I.371, "generic
    /// cell rate algorithm").
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

    /// Counts an attempt of `key`: `nil` where it is allowed, else the seconds until one is, at least 1.
    func wait(for key: Key) -> Int? {
        let places = (0..<Self.rows).map { row in
            // The seed differs in each process, so nobody can choose keys that share a cell.
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
