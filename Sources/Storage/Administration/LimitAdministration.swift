package import Domain
package import Postgres

/// What users and plans may use in a window, as administrators set it. `rate_limits` follows within a second.
package struct LimitAdministration: Sendable {
    /// The most tokens and requests of one window.
    package struct Limit: Sendable, Hashable {
        package var tokens: Int64
        package var requests: Int64

        package init(tokens: Int64, requests: Int64) {
            self.tokens = tokens
            self.requests = requests
        }
    }

    private let actor: AuditActor
    private let now: Timestamp

    package init(by actor: AuditActor, at now: Timestamp) {
        self.actor = actor
        self.now = now
    }

    /// The limits of every plan.
    package static func plans(_ connection: Connection) throws -> [String: [QuotaPeriod: Limit]] {
        var plans: [String: [QuotaPeriod: Limit]] = [:]
        for row in try connection.query("SELECT plan, period, tokens, requests FROM metering.plan_limits") {
            let (plan, period, tokens, requests) = try row.decode(String.self, String.self, Int64.self, Int64.self)
            guard let period = QuotaPeriod(rawValue: period) else { continue }
            plans[plan, default: [:]][period] = Limit(tokens: tokens, requests: requests)
        }
        return plans
    }

    /// The limits that a user has instead of the plan's.
    package static func own(_ user: Int64, _ connection: Connection) throws -> [QuotaPeriod: Limit] {
        var limits: [QuotaPeriod: Limit] = [:]
        for row in try connection.query(
            "SELECT period, tokens, requests FROM metering.user_limits WHERE user_id = \(user)")
        {
            let (period, tokens, requests) = try row.decode(String.self, Int64.self, Int64.self)
            guard let period = QuotaPeriod(rawValue: period) else { continue }
            limits[period] = Limit(tokens: tokens, requests: requests)
        }
        return limits
    }

    /// Sets a user's own limits; `nil` is the plan's again, a period that is not named stays.
    ///
    /// - Throws: ``AppError`` `.notFound` without such a user, `.invalid` for a limit below zero.
    package func set(_ limits: [QuotaPeriod: Limit?], user: Int64, _ connection: Connection) throws {
        try Self.requireNotNegative(limits.values.compactMap(\.self))
        try AuditLog.changing(.userLimits(user), "user.limits", by: actor, at: now, connection) { connection in
            _ = try UserAccounts.require(user, connection)
            for (period, limit) in limits {
                if let limit {
                    try connection.execute(
                        """
                        INSERT INTO metering.user_limits (user_id, period, tokens, requests)
                        VALUES (\(user), \(period.rawValue), \(limit.tokens), \(limit.requests))
                        ON CONFLICT (user_id, period) DO UPDATE SET tokens = excluded.tokens, requests = excluded.requests
                        """)
                } else {
                    try connection.execute(
                        "DELETE FROM metering.user_limits WHERE user_id = \(user) AND period = \(period.rawValue)")
                }
            }
        }
    }

    /// Sets the limits of a plan; a period that is not named stays.
    ///
    /// - Throws: ``AppError`` `.notFound` without such a plan, `.invalid` for a limit below zero.
    package func set(_ limits: [QuotaPeriod: Limit], plan: String, _ connection: Connection) throws {
        try Self.requireNotNegative(Array(limits.values))
        try AuditLog.changing(.planLimits(plan), "plan.limits", by: actor, at: now, connection) { connection in
            for (period, limit) in limits {
                let changed = try connection.execute(
                    """
                    UPDATE metering.plan_limits SET tokens = \(limit.tokens), requests = \(limit.requests)
                    WHERE plan = \(plan) AND period = \(period.rawValue)
                    """)
                guard changed == 1 else { throw AppError(.notFound, "The plan is one of starter, pro, agency.") }
            }
        }
    }

    private static func requireNotNegative(_ limits: [Limit]) throws {
        guard limits.allSatisfy({ $0.tokens >= 0 && $0.requests >= 0 }) else {
            throw AppError(.invalid, "A limit is a whole number of 0 or more.")
        }
    }
}
