package import Domain
package import Postgres

/// What a user may still report of their own usage at `now`: what is left of the limits of the present day and month,
/// but never more than one row of Laravel's holds.
package struct ReportAllowance: Sendable, Hashable {
    package private(set) var requests: Int64 = .max
    /// Input and output.
    package private(set) var tokens = Int64(Int32.max)
    package private(set) var cost = Money(picodollars: Int128(Cost.maximumMicrodollars) * 1_000_000)

    /// `nil` for an event that is stored already: reported again, it adds nothing.
    ///
    /// - Throws: ``AppError`` `.notFound` for an unknown user; ``PostgresError``.
    package static func read(
        of user: Int64, for key: EventKey, _ connection: Connection, now: Timestamp
    ) throws -> ReportAllowance? {
        guard try EventLookup([key], connection).stored.isEmpty else { return nil }
        guard let authorization = try CallAuthorization.find(user: user, connection, now: now) else {
            throw AppError(.notFound, "There is no such user.")
        }
        var allowance = ReportAllowance()
        for window in authorization.windows {
            allowance.requests = min(allowance.requests, window.requests.remaining ?? .max)
            allowance.tokens = min(allowance.tokens, window.tokens.remaining ?? .max)
            allowance.cost =
                window.isComputable ? min(allowance.cost, window.cost.remaining ?? allowance.cost) : .zero
        }
        return allowance
    }
}
