import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// One line of the table of pages: method, path below the prefix, who may ask, and the page that answers.
struct PageRoute: Sendable {
    typealias Handler = @Sendable (PageRequest) async throws -> PageAnswer

    let method: HTTPRequest.Method
    let path: String
    let access: Route.Access
    /// Whether the page shows new logs and totals without a reload.
    let isLive: Bool
    let handle: Handler

    init(
        _ method: HTTPRequest.Method, _ path: String, _ access: Route.Access, isLive: Bool = false,
        _ handle: @escaping Handler
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.isLive = isLive
        self.handle = handle
    }
}

/// What a page answers.
enum PageAnswer: Sendable {
    /// The template with these values.
    case page(String, JSON, status: HTTPResponse.Status = .ok)
    /// Another page: a path below the prefix, with its query. The browser asks for it by GET.
    case redirect(String)
    /// A finished response.
    case response(Response)
}

/// A request for a page: its caller, its reader, and the fields of its form.
struct PageRequest: Sendable {
    let http: Request
    let context: AppRequestContext
    /// `nil` on a page that anyone may ask.
    let caller: Caller?
    let reader: Reader
    let form: [FormField]
    let now: Timestamp
    /// The API's operations, which a page asks as its caller.
    let operations: [String: Route]
    /// The begin of every page's path.
    let prefix: String

    /// The caller; for pages that need one.
    ///
    /// - Throws: ``AppError`` `.unauthorized` on a page that anyone may ask.
    var user: UserProfile {
        get throws {
            guard let caller else { throw Authenticator.unauthenticated }
            return caller.user
        }
    }

    /// The value of the form's field `name`, without spaces around it; `nil` where it is missing or empty.
    func field(_ name: String) -> String? { Self.last(name, form) }

    /// The value of the query's field `name`; `nil` where it is missing or empty.
    func query(_ name: String) -> String? { Self.last(name, http.queryFields) }

    /// Every value of the query's fields of these names, without empty ones, as parameters of an operation.
    func query(_ names: [String]) -> [(String, String)] {
        http.queryFields.compactMap { field in
            guard names.contains(field.name), let value = field.value, !value.isEmpty else { return nil }
            return (field.name, value)
        }
    }

    /// The part `name` of the path.
    func pathPart(_ name: String) -> String { context.parameters.get(name) ?? "" }

    private static func last(_ name: String, _ fields: [FormField]) -> String? {
        let value = fields.last { $0.name == name }?.value.map { String($0.trimmingSpaces) }
        return value.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The response that leads the browser to the page at `path` below the prefix.
    func redirect(to path: String) -> Response { Response(redirectingTo: prefix + path) }

    /// The answer of the API's `operation` to this caller: what `/api` would answer to the same input.
    ///
    /// - Parameters:
    ///   - operation: OpenAPI's `operationId`.
    ///   - parameters: Names and values of its query and path.
    ///   - body: Its body.
    ///   - format: How rows are written.
    /// - Returns: The answer, which is not written yet.
    /// - Throws: ``AppError``, ``ValidationError``, as the operation does.
    func ask(
        _ operation: String, _ parameters: [(String, String)] = [], body: JSON = [:], as format: Format = .json
    ) async throws -> APIResponse {
        guard let route = operations[operation] else { throw AppError(.notFound, "There is no \(operation).") }
        if let refusal = route.operation.refusal { throw refusal }
        if let caller { try Authenticator.require(route.access, of: caller) }
        // A browser asks for HTML, but the operation knows the API's formats.
        var head = http.head
        head.headerFields[.accept] = format.contentType
        let input = try APIRequest(
            Request(head: head, body: http.body), context: context, caller: caller, body: body, route: route, now: now,
            given: Dictionary(grouping: parameters) { $0.0 }.mapValues { $0.map(\.1) })
        return try await route.operation.handle(input)
    }

    /// The JSON of the API's `operation`.
    ///
    /// - Throws: As ``ask(_:_:body:as:)``.
    func json(_ operation: String, _ parameters: [(String, String)] = [], body: JSON = [:]) async throws -> JSON {
        switch try await ask(operation, parameters, body: body).content {
        case .json(let value): return value
        case .bytes(let bytes, _): return JSON(parsing: bytes) ?? .null
        case .text(let text, _): return JSON(parsing: Array(text.utf8)) ?? .null
        case .stream, .events: return .null
        }
    }
}

extension Response {
    /// The answer to a form: the browser asks for `path` by GET (RFC 9110 §15.4.4).
    init(redirectingTo path: String) {
        self.init(status: .seeOther, headers: [.location: path, .cacheControl: "no-store"])
    }
}
