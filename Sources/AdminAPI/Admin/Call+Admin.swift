import Domain
import HTTPSupport
import Storage

extension Call {
    /// The administrator who asks, as the audit log names one.
    var actor: AuditActor {
        get throws { AuditActor(userID: try user.id, address: context.clientAddress.map { "\($0)" } ?? "local") }
    }

    /// Rows of a page.
    var limit: Int { integer("limit") ?? 100 }

    /// The page's cursor of `count` parts, if one was given.
    func cursor(count: Int) throws -> [String]? { try text("cursor").map { try Cursor.decode($0, count: count) } }

    /// The page's cursor that is an id, if one was given.
    func idCursor() throws -> Int64? {
        guard let parts = try cursor(count: 1) else { return nil }
        guard let id = Int64(parts[0]) else { throw Cursor.invalid }
        return id
    }
}

extension Parameter {
    /// What every list takes.
    static let page: [Parameter] = [
        .query("limit", .integer(1...1000), "Rows on a page, 100 unless said."),
        .query("cursor", .text(1024), "Where the page before ended."),
    ]
}

extension Answer {
    /// One page of a list; `next` is `nil` on the last.
    static func page(_ rows: [JSON], next: [String]?) -> Answer {
        .json(["data": .array(rows), "next_cursor": next.map(Cursor.encode).json])
    }
}

extension Schema {
    static func page(of row: JSON) -> JSON { object(["data": list(row), "next_cursor": optional(string)]) }
}
