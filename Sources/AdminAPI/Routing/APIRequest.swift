import Domain
import Foundation
import HTTPSupport
import Hummingbird
import NIOCore
import Storage

/// One request to a route, with what it says already understood: who asks, its parameters, its body.
struct APIRequest: Sendable {
    let http: Request
    let context: AppRequestContext
    let caller: Caller?
    let body: JSON
    let now: Timestamp
    private let values: [String: [String]]

    /// - Throws: ``ValidationError`` with every parameter that breaks its rule.
    init(
        _ http: Request, context: AppRequestContext, caller: Caller?, body: JSON, endpoint: Endpoint, now: Timestamp
    ) throws {
        self.http = http
        self.context = context
        self.caller = caller
        self.body = body
        self.now = now
        values = try endpoint.values(of: http, context: context)
    }

    /// Who asks; only for routes that let in no strangers.
    var user: UserProfile {
        get throws {
            guard let caller else { throw AppError(.unauthorized, "Unauthenticated.") }
            return caller.user
        }
    }

    /// Every value of the parameter `name`; `nil` where it was not given.
    func texts(_ name: String) -> [String]? { values[name] }

    /// The value of the parameter `name`.
    func text(_ name: String) -> String? { values[name]?.last }

    func integer(_ name: String) -> Int? { text(name).flatMap(Int.init(parameter:)) }

    /// Whether the parameter `name` is true.
    func flag(_ name: String) -> Bool { text(name) == "true" }

    func date(_ name: String) -> CalendarDate? { text(name).flatMap { CalendarDate($0) } }

    func amount(_ name: String) -> DecimalLiteral? { text(name).flatMap { DecimalLiteral($0) } }

    /// The number in the path that names a thing.
    func id(_ name: String = "id") throws -> Int64 {
        guard let id = integer(name) else { throw AppError(.notFound, "There is no such \(name).") }
        return Int64(id)
    }
}

extension Endpoint {
    /// The values of the declared parameters, each checked.
    ///
    /// A parameter that nobody declared is refused below `/api/v1`: a mistyped filter must not look like an answer. Laravel
    /// ignores them, and so do its routes.
    fileprivate func values(of request: Request, context: AppRequestContext) throws -> [String: [String]] {
        var given: [String: [String?]] = [:]
        var lists: Set<String> = []
        for field in request.queryFields {
            let (name, isList) = isLaravels ? field.nameOfPHP : (field.name, false)
            if isList { lists.insert(name) } else { given[name, default: []].append(field.value) }
        }
        var values: [String: [String]] = [:]
        var errors = ValidationError()
        for parameter in parameters {
            let found: [String?]?
            switch parameter.place {
            case .path: found = context.parameters.get(parameter.name).map { [$0] }
            case .query: found = given.removeValue(forKey: parameter.name)
            }
            let label = parameter.name.replacing("_", with: " ")
            if lists.contains(parameter.name) { errors.add(parameter.name, ["The \(label) field must be a string."]) }
            guard let raw = found else { continue }
            if raw.count > 1, !parameter.isRepeated, !isLaravels {
                errors.add(parameter.name, ["The \(label) field stands once."])
            }
            let texts = raw.compactMap(\.self).map(parameter.kind.restoringPluses)
            if texts.count < raw.count { errors.add(parameter.name, ["The \(label) field must be a text in UTF-8."]) }
            // Laravel takes an empty value for none.
            let present = isLaravels ? texts.filter { !$0.isEmpty } : texts
            errors.add(parameter.name, Array(present.compactMap(parameter.problem(with:)).prefix(1)))
            values[parameter.name] = present
        }
        if !isLaravels {
            for name in given.keys.sorted() { errors.add(name, ["There is no parameter of this name here."]) }
        }
        guard errors.isEmpty else { throw errors }
        return values
    }
}

extension APIRequest {
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

extension APIResponse {
    /// One page of a list; `next` is `nil` on the last.
    static func page(_ rows: [JSON], next: [String]?) -> APIResponse {
        .json(["data": .array(rows), "next_cursor": next.map(Cursor.encode).json])
    }
}

extension Schema {
    static func page(of row: JSON) -> JSON { object(["data": list(row), "next_cursor": optional(string)]) }
}

/// The place where a page ended, as an opaque text: what it was sorted by and its last row.
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

    static let invalid = AppError(.invalid, "The cursor is not one that an answer of this query gave.")
}

// Until the exports are on main under their new names.
typealias Call = APIRequest
typealias Answer = APIResponse
extension APIRequest { var request: Request { http } }
