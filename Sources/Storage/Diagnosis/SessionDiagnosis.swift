package import Domain
package import Postgres

/// A browser's session as Laravel's driver `database` stores it.
package struct StoredSession: Sendable, Hashable {
    /// The user who is logged in; `nil` for a guest.
    package let userID: Int64?
    /// The session's data in Base64.
    package let payload: String
    /// The time of its last use, in whole seconds.
    package let usedAt: Timestamp

    /// The session `id`, even if it has expired.
    ///
    /// - Throws: ``PostgresError``.
    package static func find(
        _ id: String, in table: SessionTable = .standard, _ connection: Connection
    ) throws -> StoredSession? {
        let rows = try connection.query(
            """
            SELECT user_id, payload, least(greatest(last_activity, 0), 253402300799)::bigint
            FROM \(table.query) WHERE id = \(id)
            """)
        return try rows.first.map { row in
            let (user, payload, second) = try row.decode(Int64?.self, String.self, Int64.self)
            return StoredSession(
                userID: user, payload: payload, usedAt: Timestamp(microseconds: second * 1_000_000))
        }
    }
}

/// The table in which Laravel keeps its sessions (`SESSION_TABLE`).
package struct SessionTable: Sendable, Hashable {
    /// Laravel's default, `public.sessions`.
    package static let standard = SessionTable(schema: "public", name: "sessions")
    /// The end of an error message about an invalid name.
    package static let rule = "is not the name of a table, such as sessions or app.sessions"

    private let schema: String
    private let name: String

    private init(schema: String, name: String) {
        self.schema = schema
        self.name = name
    }

    /// The table that `text` names, such as `sessions` or `app.sessions`; `nil` for an invalid name.
    package init?(_ text: String) {
        guard let match = text.wholeMatch(of: /(?:([A-Za-z_][A-Za-z0-9_]{0,62})\.)?([A-Za-z_][A-Za-z0-9_]{0,62})/)
        else {
            return nil
        }
        self.init(schema: match.1.map(String.init) ?? "public", name: String(match.2))
    }

    /// The quoted name. Laravel quotes names, so their case counts.
    private var text: String { "\(schema.quotedIdentifier).\(name.quotedIdentifier)" }

    fileprivate var query: Query { Query(unsafeSQL: text) }

    /// The rights that admin-api needs on it, where it is another table than ``standard``.
    var grants: [Grant] {
        guard self != .standard else { return [] }
        let columns = Grant.Right.select("id", "user_id", "payload", "last_activity")
        let ofSchema = schema == "public" ? [] : [Grant(.schema, schema.quotedIdentifier, [.admin: [.usage]])]
        return ofSchema + [Grant(.table, text, [.admin: [columns]])]
    }
}

/// The encoding of the database.
package enum Encoding {
    /// The database has another encoding than UTF8, which cannot store all texts of events.
    package struct Refusal: Error, Hashable, CustomStringConvertible {
        let found: String

        package var description: String {
            "The database's encoding is \(found); it must be UTF8. Nothing was changed. Make a database WITH "
                + "ENCODING 'UTF8' "
                + "TEMPLATE template0, dump Laravel's into it (pg_dump, psql), and use that one."
        }
    }

    /// Refuses a database with another encoding than UTF8.
    ///
    /// - Throws: ``Refusal``; ``PostgresError``.
    package static func require(_ connection: Connection) throws {
        let found = try current(connection)
        if found != "UTF8" { throw Refusal(found: found) }
    }

    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        let found = try current(connection)
        guard found != "UTF8" else { return [] }
        return [
            LaravelFinding(
                .failing, "The database's encoding is \(found) and not UTF8",
                meaning: "Texts with characters that it does not have are refused.",
                remedy: Refusal(found: found).description)
        ]
    }

    private static func current(_ connection: Connection) throws -> String {
        try connection.query("SELECT current_setting('server_encoding')")[0].decode(0)
    }
}

/// Checks whether this session has the settings on which our statements depend.
enum SessionDiagnosis {
    /// A standby, or a read-only role or database. Reads still work.
    static func readOnly(_ connection: Connection, for role: DatabaseRole) throws -> [LaravelFinding] {
        let rows = try connection.query(
            "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean")
        guard try rows[0].decode(0, as: Bool.self), role == .webhook || role == .admin else { return [] }
        return [
            LaravelFinding(
                role == .webhook ? .blinding : .failing, "The database is a standby or read-only for this service",
                meaning: "Nothing can be stored; what is sent is answered 503 and may be sent again.",
                remedy:
                    "Point DB_HOST at the primary, or set default_transaction_read_only = off for role and database.")
        ]
    }

    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        try lostSettings(connection) + replication(connection)
    }

    private static func lostSettings(_ connection: Connection) throws -> [LaravelFinding] {
        let pinned = SessionSetting.pinned
        let rows = try connection.query(
            """
            SELECT p.name, current_setting(p.name)
            FROM unnest(\(pinned.map(\.name))::text[], \(pinned.map(\.value))::text[])
                WITH ORDINALITY AS p (name, value, number)
            WHERE lower(current_setting(p.name)) <> lower(p.value) ORDER BY p.number
            """)
        let lost = try rows.map { row in
            let (name, value) = try row.decode(String.self, String.self)
            return "\(name) is \(value)"
        }
        guard !lost.isEmpty else { return [] }
        return [
            LaravelFinding(
                .risky, "The settings of our database sessions are not in force",
                details: lost.joined(separator: ", "),
                meaning: "Something between us and PostgreSQL takes them away, and values may be read otherwise.",
                remedy:
                    "Run the output of 'codexflow grants' with psql again, which sets them for the roles, or have the "
                    + "pooler keep the start-up parameter 'options'.")
        ]
    }

    private static func replication(_ connection: Connection) throws -> [LaravelFinding] {
        let session = try connection.query(
            "SELECT current_setting('session_replication_role'), current_user::text")[0]
        let (replication, user) = try session.decode(String.self, String.self)
        guard replication != "origin" else { return [] }
        return [
            LaravelFinding(
                .risky,
                "Our sessions write as a replica does: foreign keys are not checked and triggers do not run",
                details: "session_replication_role is \(replication) for \(user)",
                meaning: "Rows of deleted users may stay, and what Laravel's triggers do is not done for our rows.",
                remedy:
                    "As a superuser: ALTER ROLE \(user.quotedIdentifier) RESET session_replication_role; and see "
                    + "ALTER DATABASE and postgresql.conf.")
        ]
    }
}
