package import Domain
package import Postgres

/// A browser's session as Laravel's driver `database` keeps it (`laravel.md` §5).
package struct StoredSession: Sendable, Hashable {
    /// The user who is logged in.
    package let userID: Int64?
    /// Base64 of what the page remembers.
    package let payload: String
    /// When it was last used, to a second.
    package let usedAt: Timestamp

    /// The session `id`, also one that has ended.
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
    package static let standard = SessionTable(schema: "public", name: "sessions")
    /// What a name must be, as the end of a sentence.
    package static let rule = "is not the name of a table, such as sessions or app.sessions"

    private let schema: String
    private let name: String

    private init(schema: String, name: String) {
        self.schema = schema
        self.name = name
    }

    /// The table `text`, with its schema where that is not `public`; `nil` where it is no such name.
    package init?(_ text: String) {
        guard let match = text.wholeMatch(of: /(?:([A-Za-z_][A-Za-z0-9_]{0,62})\.)?([A-Za-z_][A-Za-z0-9_]{0,62})/)
        else {
            return nil
        }
        self.init(schema: match.1.map(String.init) ?? "public", name: String(match.2))
    }

    /// As PostgreSQL reads it; Laravel quotes names, so their case counts.
    private var text: String { "\(schema.quotedIdentifier).\(name.quotedIdentifier)" }

    fileprivate var query: Query { Query(unsafeSQL: text) }

    /// What admin-api must be granted where it is another table than ``standard``.
    var grants: [Grant] {
        guard self != .standard else { return [] }
        let columns = Grant.Right.select("id", "user_id", "payload", "last_activity")
        let ofSchema = schema == "public" ? [] : [Grant(.schema, schema.quotedIdentifier, [.admin: [.usage]])]
        return ofSchema + [Grant(.table, text, [.admin: [columns]])]
    }
}
