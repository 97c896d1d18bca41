package import Domain
package import Postgres

/// Who changed what, and when: `metering.audit_log`.
package enum AuditLog {
    /// One change.
    package struct Entry: Sendable, Hashable {
        package let id: Int64
        package let at: Timestamp
        package let actor: AuditActor
        /// Such as `user.update`.
        package let action: String
        /// The kind of thing that was changed, such as `user`, and which.
        package let subject: String
        package let subjectID: String
        /// JSON objects; `nil` where the thing was not there, or is not any more.
        package let before: String?
        package let after: String?
    }

    /// Which entries are meant; each condition narrows.
    package struct Filter: Sendable, Hashable {
        package var actorID: Int64?
        package var subject: String?
        package var subjectID: String?
        /// `[from, to)`
        package var from: Timestamp?
        package var to: Timestamp?

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

    /// The newest entries that `filter` means, at most `limit` of those before the entry `cursor`.
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

    /// Does `body` in a transaction with what it changed of `subject`; a change that leaves it as it was is not kept.
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

    /// Keeps that something was done about entries of the quarantine; how they are now they say themselves.
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

    /// Keeps what the open transaction changed of `subject`, which was `before`.
    static func record(
        _ subject: AuditSubject, _ action: String, before: String?, by actor: AuditActor, at now: Timestamp,
        _ connection: Connection
    ) throws {
        try connection.execute(
            """
            INSERT INTO metering.audit_log (at, actor_id, address, action, subject, subject_id, before, after)
            SELECT \(now), \(actor.userID), \(actor.address), \(action), \(subject.kind), \(subject.id), c.before, c.after
            FROM (SELECT \(before as String?)::jsonb AS before, (\(subject.state)) AS after) c
            WHERE c.before IS DISTINCT FROM c.after
            """)
    }
}
