package import Domain
package import Postgres

/// The administrator who makes a change, and the address of the client.
package struct AuditActor: Sendable, Hashable {
    /// An operator of the command line. No user of Laravel has the id 0.
    package static let commandLine = AuditActor(userID: 0, address: "codexflow")

    /// Laravel's user id.
    package var userID: Int64
    /// The client's address as the service saw it, such as `203.0.113.9`.
    package var address: String

    /// The administrator `userID` at the client `address`.
    package init(userID: Int64, address: String) {
        self.userID = userID
        self.address = address
    }
}

/// Something that administrators change: its name, the row that is locked meanwhile, and its state.
struct AuditSubject {
    let kind: String
    let id: String
    /// The statement that locks the rows on which the change depends.
    let lock: Query
    /// A scalar query of its state as a JSON object without secrets; NULL where it does not exist.
    let state: Query

    /// A user's account. `admins` also locks all administrators, in the order of ids. So of two concurrent changes the
    /// later one sees the result of the earlier one.
    static func user(_ id: Int64, admins: Bool = false) -> AuditSubject {
        let others: Query = admins ? "OR (is_admin AND status = 'active')" : ""
        return AuditSubject(
            kind: "user", id: "\(id)",
            lock: "SELECT FROM public.users WHERE id = \(id) \(others) ORDER BY id FOR NO KEY UPDATE",
            state: """
                SELECT jsonb_build_object('name', u.name, 'email', u.email, 'email_verified_at', u.email_verified_at,
                                          'plan', u.plan, 'status', u.status,
                                          'is_admin', u.is_admin, 'key_prefix', \(UserAccounts.keyPrefix),
                                          'key_hash', encode(sha256(convert_to(u.api_key, 'UTF8')), 'hex'))
                FROM public.users u WHERE u.id = \(id)
                """)
    }

    /// A user's own limits and models.
    static func userLimits(_ id: Int64) -> AuditSubject {
        AuditSubject(
            kind: "user_limits", id: "\(id)", lock: user(id).lock,
            state: """
                SELECT jsonb_object_agg(s.name, s.value) FROM (
                    SELECT l.period AS name, to_jsonb(l) - 'user_id' - 'period' AS value
                    FROM metering.user_limits l WHERE l.user_id = \(id)
                    UNION ALL
                    SELECT 'models', to_jsonb(m.models) FROM metering.user_models m WHERE m.user_id = \(id)
                ) s
                """)
    }

    /// The limits of a plan.
    static func planLimits(_ plan: String) -> AuditSubject {
        AuditSubject(
            kind: "plan_limits", id: plan,
            lock: "SELECT FROM metering.plan_limits WHERE plan = \(plan) ORDER BY period FOR UPDATE",
            state: """
                SELECT jsonb_object_agg(l.period, jsonb_build_object('tokens', l.tokens, 'requests', l.requests))
                FROM metering.plan_limits l WHERE l.plan = \(plan)
                """)
    }

    /// A user's request for higher limits.
    static func limitRequest(_ id: Int64) -> AuditSubject {
        AuditSubject(
            kind: "limit_request", id: "\(id)", lock: "SELECT FROM metering.limit_requests WHERE id = \(id) FOR UPDATE",
            state:
                """
                SELECT jsonb_build_object('answer', r.answer, 'note', r.note)
                FROM metering.limit_requests r WHERE r.id = \(id)
                """
        )
    }

    /// A model of Laravel's list.
    static func model(_ id: Int64) -> AuditSubject {
        AuditSubject(
            kind: "model", id: "\(id)", lock: "SELECT FROM public.models WHERE id = \(id) FOR UPDATE",
            state: "SELECT to_jsonb(m) - 'id' - 'created_at' - 'updated_at' FROM public.models m WHERE m.id = \(id)")
    }

    /// Whether a model's cost of zero is a price.
    static func freeModel(_ model: String) -> AuditSubject {
        AuditSubject(
            kind: "free_model", id: model, lock: "SELECT FROM metering.free_models WHERE model = \(model) FOR UPDATE",
            state: "SELECT to_jsonb(m) FROM metering.free_models m WHERE m.model = \(model)")
    }
}

/// The changes by administrators, kept in `metering.audit_log`.
package enum AuditLog {
    /// One change.
    package struct Entry: Sendable, Hashable {
        /// The entry's number.
        package let id: Int64
        /// The time of the change.
        package let at: Timestamp
        /// The administrator who made it.
        package let actor: AuditActor
        /// The kind of change, such as `user.update`.
        package let action: String
        /// The kind of subject, such as `user`.
        package let subject: String
        /// The id of the subject, such as the user's.
        package let subjectID: String
        /// The state before as a JSON object; `nil` where the subject did not exist.
        package let before: String?
        /// The state after as a JSON object; `nil` where the subject does not exist any more.
        package let after: String?
    }

    /// Conditions on entries. An entry must meet all that are not `nil`.
    package struct Filter: Sendable, Hashable {
        /// The administrator.
        package var actorID: Int64?
        /// The kind of subject.
        package var subject: String?
        /// The id of the subject.
        package var subjectID: String?
        /// The first moment.
        package var from: Timestamp?
        /// The end, not included.
        package var to: Timestamp?

        /// A filter with these conditions.
        package init(
            actorID: Int64? = nil, subject: String? = nil, subjectID: String? = nil, from: Timestamp? = nil,
            to: Timestamp? = nil
        ) {
            self.actorID = actorID
            self.subject = subject
            self.subjectID = subjectID
            self.from = from
            self.to = to
        }

        fileprivate var conditions: [Query] {
            [
                actorID.map { "a.actor_id = \($0)" }, subject.map { "a.subject = \($0)" },
                subjectID.map { "a.subject_id = \($0)" }, from.map { "a.at >= \($0)" }, to.map { "a.at < \($0)" },
            ].compactMap(\.self)
        }
    }

    /// The newest entries that `filter` selects, at most `limit`, all before the entry `cursor`.
    ///
    /// - Throws: ``PostgresError``.
    package static func list(
        _ filter: Filter, before cursor: Int64? = nil, limit: Int, _ connection: Connection
    ) throws -> [Entry] {
        let conditions = filter.conditions + [cursor.map { "a.id < \($0)" }].compactMap(\.self)
        let condition = conditions.reduce("true" as Query) { "\($0) AND \($1)" }
        return try connection.query(
            """
            SELECT a.id, \(microseconds: "a.at"), a.actor_id, a.address, a.action, a.subject, a.subject_id,
                   a.before::text, a.after::text
            FROM metering.audit_log a WHERE \(condition) ORDER BY a.id DESC LIMIT \(limit)
            """
        ).map { row in
            let (id, at, actor, address, action, subject, subjectID, before, after) = try row.decode(
                Int64.self, Int64.self, Int64.self, String.self, String.self, String.self, String.self, String?.self,
                String?.self)
            return Entry(
                id: id, at: Timestamp(microseconds: at), actor: AuditActor(userID: actor, address: address),
                action: action, subject: subject, subjectID: subjectID, before: before, after: after)
        }
    }

    /// Runs `body` in a transaction and records what it changed of `subject`. Without a difference nothing is recorded.
    @discardableResult
    static func changing<T>(
        _ subject: AuditSubject, _ action: String, by actor: AuditActor, at now: Timestamp, _ connection: Connection,
        _ body: (Connection) throws -> T
    ) throws -> T {
        try connection.transaction { connection in
            try connection.execute(subject.lock)
            let before = try connection.query("SELECT (\(subject.state))::text")[0].decode(0, as: String?.self)
            let result = try body(connection)
            try record(subject, action, before: before, by: actor, at: now, connection)
            return result
        }
    }

    /// Records that an operator replayed or discarded entries of the quarantine. The entries hold their own state.
    ///
    /// - Throws: ``PostgresError``.
    package static func record(
        _ action: String, ofQuarantined ids: [EventKey], by actor: AuditActor, at now: Timestamp,
        _ connection: Connection
    ) throws {
        try connection.execute(
            """
            INSERT INTO metering.audit_log (at, actor_id, address, action, subject, subject_id)
            SELECT \(now), \(actor.userID), \(actor.address), \(action), 'quarantine', q.id::text
            FROM metering.quarantine q WHERE q.id = ANY(\(ids.map(\.description))::uuid[]) ORDER BY q.id
            """)
    }

    /// Records what the open transaction changed of `subject`, whose state was `before`.
    static func record(
        _ subject: AuditSubject, _ action: String, before: String?, by actor: AuditActor, at now: Timestamp,
        _ connection: Connection
    ) throws {
        try connection.execute(
            """
            INSERT INTO metering.audit_log (at, actor_id, address, action, subject, subject_id, before, after)
            SELECT \(now), \(actor.userID), \(actor.address), \(action), \(subject.kind), \(subject.id),
                   c.before, c.after
            FROM (SELECT \(before as String?)::jsonb AS before, (\(subject.state)) AS after) c
            WHERE c.before IS DISTINCT FROM c.after
            """)
    }
}
