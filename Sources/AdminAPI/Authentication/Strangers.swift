import Bootstrap
import Domain
import HTTPSupport
import Passwords
import Storage

/// What strangers may try, and how passwords are worked on.
struct Strangers: Sendable {
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
    func hash(_ password: String, for call: Call) async throws -> String {
        try await mapping { try await passwords.hash(password, cost: passwordCost, for: call.client) }
    }

    /// Whether `password` is the one of `hash`, in the turn of who sends it. Without a hash it takes as long.
    ///
    /// - Throws: ``AppError`` `.unavailable`.
    func verify(_ password: String, against hash: String?, for call: Call) async throws -> Bool {
        try await mapping { try await passwords.verify(password, against: hash, cost: passwordCost, for: call.client) }
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

extension Call {
    /// Whose turn it is where clients take turns.
    fileprivate var client: String { context.clientAddress.map { "\($0.customer)" } ?? "local" }
}
