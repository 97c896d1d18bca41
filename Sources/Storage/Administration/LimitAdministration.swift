package import Domain
package import Postgres

/// Sets the limits of users and plans. Laravel's `rate_limits` follows within a second.
package struct LimitAdministration: Sendable {
    /// The most tokens and requests of one window.
    package struct Limit: Sendable, Hashable {
        /// The most tokens.
        package var tokens: Int64
        /// The most requests.
        package var requests: Int64

        /// A limit of so many tokens and requests.
        package init(tokens: Int64, requests: Int64) {
            self.tokens = tokens
            self.requests = requests
        }
    }

    private let actor: AuditActor
    private let now: Timestamp

    /// Changes that `actor` makes at `now`.
    package init(by actor: AuditActor, at now: Timestamp) {
        self.actor = actor
        self.now = now
    }

    /// The limits of every plan.
    ///
    /// - Throws: ``PostgresError``.
    package static func plans(_ connection: Connection) throws -> [String: [QuotaPeriod: Limit]] {
        var plans: [String: [QuotaPeriod: Limit]] = [:]
        for row in try connection.query("SELECT plan, period, tokens, requests FROM metering.plan_limits") {
            let (plan, period, tokens, requests) = try row.decode(String.self, String.self, Int64.self, Int64.self)
            guard let period = QuotaPeriod(rawValue: period) else { continue }
            plans[plan, default: [:]][period] = Limit(tokens: tokens, requests: requests)
        }
        return plans
    }

    /// The new limits of a user. A window that is not named stays.
    package struct UserChange: Sendable, Hashable {
        /// The changes of each window.
        package var windows: [QuotaPeriod: UserLimits.Change]
        /// The models that may be called, `.clear` for all.
        package var models: UserLimits.Setting<[String]>

        /// A change of these windows and models.
        package init(windows: [QuotaPeriod: UserLimits.Change] = [:], models: UserLimits.Setting<[String]> = .keep) {
            self.windows = windows
            self.models = models
        }
    }

    /// Sets a user's own limits and models.
    ///
    /// - Throws: ``AppError`` `.notFound` without such a user, `.invalid` for a limit below zero.
    package func set(_ change: UserChange, user: Int64, _ connection: Connection) throws {
        try explainingRefusal {
            try AuditLog.changing(.userLimits(user), "user.limits", by: actor, at: now, connection) { connection in
                try UserAccounts.requirePresent(user, connection)
                for (period, window) in change.windows { try UserLimits.set(window, period, user: user, connection) }
                switch change.models {
                case .keep: break
                case .clear: try UserLimits.allow(models: nil, user: user, connection)
                case .set(let models): try UserLimits.allow(models: models, user: user, connection)
                }
            }
        }
    }

    /// Sets the limits of a plan; a period that is not named stays.
    ///
    /// - Throws: ``AppError`` `.notFound` without such a plan, `.invalid` for a limit below zero.
    package func set(_ limits: [QuotaPeriod: Limit], plan: String, _ connection: Connection) throws {
        try explainingRefusal {
            try AuditLog.changing(.planLimits(plan), "plan.limits", by: actor, at: now, connection) { connection in
                let unknown = AppError(.notFound, "The plan is one of starter, pro, agency.")
                guard try !connection.query("SELECT FROM metering.plan_limits WHERE plan = \(plan)").isEmpty else {
                    throw unknown
                }
                for (period, limit) in limits {
                    let changed = try connection.execute(
                        """
                        UPDATE metering.plan_limits SET tokens = \(limit.tokens), requests = \(limit.requests)
                        WHERE plan = \(plan) AND period = \(period.rawValue)
                        """)
                    guard changed == 1 else { throw unknown }
                }
            }
        }
    }

    /// Answers a user's request for higher limits. It changes no limit; ``set(_:user:_:)`` does.
    ///
    /// - Throws: ``AppError`` `.notFound` without such a request, `.conflict` where it has an answer.
    package func answer(_ id: Int64, isGranted: Bool, note: String?, _ connection: Connection) throws -> LimitRequest {
        try AuditLog.changing(.limitRequest(id), "limit_request.answer", by: actor, at: now, connection) { connection in
            let answered = try connection.execute(
                """
                UPDATE metering.limit_requests
                SET answer = \(isGranted ? "granted" : "refused"), note = \(note as String?),
                    answered_by = \(actor.userID),
                    answered_at = \(now)
                WHERE id = \(id) AND answered_at IS NULL
                """)
            guard let request = try LimitRequest.find(id, connection) else {
                throw AppError(.notFound, "There is no limit request with this id.")
            }
            guard answered == 1 else {
                throw AppError(.conflict, "This limit request has an answer already.", cause: .answeredBefore)
            }
            return request
        }
    }

    /// Runs `body`, and turns a violated CHECK of the tables into an error for the client.
    private func explainingRefusal<T>(_ body: () throws -> T) throws -> T {
        do {
            return try body()
        } catch let error as PostgresError where error.sqlState == "23514" {
            throw AppError(.invalid, "A limit is 0 or more.")
        }
    }
}
