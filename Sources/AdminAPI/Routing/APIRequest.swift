import Domain
import Foundation
import HTTPSupport
import Hummingbird
import NIOCore
import Storage

/// A request to a route, with its caller, checked parameters and parsed body.
struct APIRequest: Sendable {
    let http: Request
    let context: AppRequestContext
    let caller: Caller?
    let body: JSON
    let now: Timestamp
    /// Authenticates the request once more, for an answer that goes on after it.
    let authenticate: @Sendable () async throws -> Caller?
    /// The values of the declared parameters that are given.
    let parameters: [String: [String]]

    /// - Throws: ``ValidationError`` with every parameter that breaks its rule.
    init(
        _ http: Request, context: AppRequestContext, caller: Caller?, body: JSON, route: Route, now: Timestamp,
        authenticate: @escaping @Sendable () async throws -> Caller?
    ) throws {
        self.authenticate = authenticate
        self.http = http
        self.context = context
        self.caller = caller
        self.body = body
        self.now = now
        parameters = try route.values(of: http, context: context)
    }

    /// A request of a page to the route, whose parameters, of path and query, are `given`.
    ///
    /// - Throws: ``ValidationError`` with every parameter that breaks its rule.
    init(
        _ http: Request, context: AppRequestContext, caller: Caller?, body: JSON, route: Route, now: Timestamp,
        given: [String: [String]]
    ) throws {
        (self.http, self.context, self.caller, self.body, self.now) = (http, context, caller, body, now)
        authenticate = { caller }
        let parts = Set(route.operation.parameters.filter { $0.location == .path }.map(\.name))
        let query = given.filter { !parts.contains($0.key) }.mapValues { $0.map(Optional.some) }
        parameters = try route.values(of: query, lists: []) { given[$0]?.last }
    }

    /// The caller; for routes that need one.
    ///
    /// - Throws: ``AppError`` `.unauthorized` on a route that anyone may ask.
    var user: UserProfile {
        get throws {
            guard let caller else { throw AppError(.unauthorized, "Unauthenticated.") }
            return caller.user
        }
    }

    /// Every value of the parameter `name`; `nil` where it is not given.
    func texts(_ name: String) -> [String]? { parameters[name] }

    /// The value of the parameter `name`.
    func text(_ name: String) -> String? { parameters[name]?.last }

    func integer(_ name: String) -> Int? { text(name).flatMap(Int.init(parameter:)) }

    /// Whether the parameter `name` is true.
    func flag(_ name: String) -> Bool { text(name) == "true" }

    func date(_ name: String) -> CalendarDate? { text(name).flatMap { CalendarDate($0) } }

    func amount(_ name: String) -> DecimalLiteral? { text(name).flatMap { DecimalLiteral($0) } }

    /// The id in the path.
    ///
    /// - Throws: ``AppError`` `.notFound` when the path has none.
    func id(_ name: String = "id") throws -> Int64 {
        guard let id = integer(name) else { throw AppError(.notFound, "There is no such \(name).") }
        return Int64(id)
    }
}

extension Route {
    /// The values of the declared parameters.
    ///
    /// An undeclared parameter is refused below `/api/v1`, because the answer to a mistyped filter would mislead.
    /// Laravel's routes ignore them, as Laravel does.
    ///
    /// - Throws: ``ValidationError`` with every parameter that breaks its rule.
    fileprivate func values(of request: Request, context: AppRequestContext) throws -> [String: [String]] {
        var given: [String: [String?]] = [:]
        var lists: Set<String> = []
        for field in request.queryFields {
            let (name, isList) = isLaravel ? field.nameOfPHP : (field.name, false)
            if isList { lists.insert(name) } else { given[name, default: []].append(field.value) }
        }
        return try values(of: given, lists: lists) { context.parameters.get($0) }
    }

    /// The values of the declared parameters: `given` ones of the query, and those that `part` finds in the path.
    fileprivate func values(
        of given: [String: [String?]], lists: Set<String>, part: (String) -> String?
    ) throws -> [String: [String]] {
        var given = given
        var values: [String: [String]] = [:]
        var errors = ValidationError()
        for parameter in operation.parameters {
            let found: [String?]?
            switch parameter.location {
            case .path: found = part(parameter.name).map { [$0] }
            case .query: found = given.removeValue(forKey: parameter.name)
            }
            let label = parameter.name.replacing("_", with: " ")
            if lists.contains(parameter.name) { errors.add(parameter.name, ["The \(label) field must be a string."]) }
            guard let raw = found else { continue }
            if raw.count > 1, !parameter.isRepeated, !isLaravel {
                errors.add(parameter.name, ["The \(label) field stands once."])
            }
            let texts = raw.compactMap(\.self).map(parameter.kind.restoringPluses)
            if texts.count < raw.count { errors.add(parameter.name, ["The \(label) field must be a text in UTF-8."]) }
            // Laravel reads an empty value as none.
            let present = isLaravel ? texts.filter { !$0.isEmpty } : texts
            errors.add(parameter.name, Array(present.compactMap(parameter.problem(with:)).prefix(1)))
            values[parameter.name] = present
        }
        if !isLaravel {
            for name in given.keys.sorted() { errors.add(name, ["There is no parameter of this name here."]) }
        }
        guard errors.isEmpty else { throw errors }
        return values
    }
}

extension APIRequest {
    /// The administrator who asks, for the audit log.
    ///
    /// - Throws: ``AppError`` `.unauthorized` when nobody is authenticated.
    var actor: AuditActor {
        get throws { AuditActor(userID: try user.id, address: context.clientAddress.map { "\($0)" } ?? "local") }
    }

    /// The rows of a page.
    var limit: Int { integer("limit") ?? 100 }

    /// The page's cursor of `count` parts; `nil` where none is given.
    ///
    /// - Throws: ``AppError`` `.invalid` when it is not a cursor.
    func cursor(count: Int) throws -> [String]? { try text("cursor").map { try Cursor.decode($0, count: count) } }

    /// The page's cursor, an id; `nil` where none is given.
    ///
    /// - Throws: ``AppError`` `.invalid` when it is not an id.
    func idCursor() throws -> Int64? {
        guard let parts = try cursor(count: 1) else { return nil }
        guard let id = Int64(parts[0]) else { throw Cursor.invalid }
        return id
    }
}

/// One page of a list.
struct Page<Row>: Sendable where Row: Sendable {
    let rows: [Row]
    /// The parts of the next page's cursor; `nil` on the last page.
    let next: [String]?

    init(_ rows: [Row], next: [String]?) {
        self.rows = rows
        self.next = next
    }

    /// A page of the first `limit` rows. One row more says that another page follows.
    init(_ rows: [Row], limit: Int, cursor: (Row) -> [String]) {
        self.rows = Array(rows.prefix(limit))
        next = rows.count > limit ? self.rows.last.map(cursor) : nil
    }
}

extension JSONType {
    /// `{"data": […], "next_cursor": …}`
    static func page<Row: Sendable>(_ name: String, of row: JSONType<Row>) -> JSONType where Value == Page<Row> {
        .object(
            name,
            [
                Field("data", .list(row)) { $0.rows },
                Field("next_cursor", .nullable(.string)) { $0.next.map(Cursor.encode) },
            ])
    }
}

/// The position where a page ended, as opaque text: the sort key and id of its last row.
enum Cursor {
    /// `parts` as one text for a URL.
    static func encode(_ parts: [String]) -> String {
        let json = JSON.array(parts.map(JSON.string)).buffer
        return Data(json.readableBytesView).base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    /// The `count` parts of a text that ``encode(_:)`` made.
    ///
    /// - Throws: ``AppError`` `.invalid` for any other text.
    static func decode(_ text: String, count: Int) throws -> [String] {
        let padded = text.replacing("-", with: "+").replacing("_", with: "/")
        let filled = padded + String(repeating: "=", count: (4 - padded.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: filled), let elements = JSON(parsing: Array(data))?.elements,
            elements.count == count
        else { throw invalid }
        let parts = elements.compactMap(\.text)
        guard parts.count == count, !parts.contains(where: { $0.utf8.contains(0) }) else { throw invalid }
        return parts
    }

    static let invalid = AppError(
        .invalid, "The cursor is not one that an answer of this query gave.", cause: .invalidCursor)
}
