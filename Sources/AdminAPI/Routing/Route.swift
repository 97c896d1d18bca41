import Domain
import HTTPSupport
import HTTPTypes

/// One line of the table of routes: method, path, who may ask, and the operation that answers.
struct Route: Sendable {
    /// Who may ask.
    enum Access: String, Sendable {
        case anyone, user, admin
    }

    /// What a Sanctum token must be able to do. A token whose abilities are `["*"]` may do everything.
    enum Ability: String, Sendable {
        case read, write
        /// See or replace the user's API key.
        case key
        case adminRead = "admin:read"
        case adminWrite = "admin:write"
    }

    let method: HTTPRequest.Method
    /// In OpenAPI's form, such as `/api/v1/logs/{id}`.
    let path: String
    let access: Access
    /// `nil` where every token will do.
    let ability: Ability?
    let operation: Operation

    /// A route that needs the usual ability: to read for `GET`, to write for other methods.
    init(_ method: HTTPRequest.Method, _ path: String, _ access: Access, _ operation: Operation) {
        let reads = method == .get
        let ability: Ability = access == .admin ? (reads ? .adminRead : .adminWrite) : reads ? .read : .write
        self.init(method, path, access, needing: ability, operation)
    }

    /// A route that needs `ability`, whatever its method and access are.
    init(
        _ method: HTTPRequest.Method, _ path: String, _ access: Access, needing ability: Ability?,
        _ operation: Operation
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.ability = ability
        self.operation = operation
    }

    /// Whether a token of these abilities may ask. It may with `*`, with the route's ability, and with the route's own
    /// name, such as `GET /api/v1/logs`.
    func isOpen(to abilities: Set<String>) -> Bool {
        guard let ability else { return true }
        return !abilities.isDisjoint(with: ["*", ability.rawValue, "\(method.rawValue) \(path)"])
    }

    /// Whether the route is one of Laravel's: it takes input and reports errors as Laravel does.
    var isLaravel: Bool { path.hasPrefix("/api/") && !path.hasPrefix("/api/v1/") }
}

/// What a route does: the handler, and everything that `/openapi.json` says of it.
struct Operation: Sendable {
    typealias Handler = @Sendable (APIRequest) async throws -> APIResponse

    /// OpenAPI's `operationId`: the name of the controller's property that declares the operation.
    let id: String
    let summary: String
    let parameters: [Parameter]
    /// The schema of the request body; `nil` where none is taken.
    let body: JSON?
    let status: HTTPResponse.Status
    /// The status of the same answer to a repeated request.
    let statusWhenRepeated: HTTPResponse.Status?
    /// The schema of each media type of the answer.
    let content: [(type: String, schema: JSON)]
    /// Why the operation is refused to everyone; `nil` where it is not.
    private(set) var refusal: AppError?
    private(set) var handle: Handler

    /// An operation that answers a value of `type` as JSON. `holdsSecret` says that a key or token is in it.
    init<Value: Sendable>(
        _ summary: String, _ parameters: [Parameter] = [], body: JSON? = nil, status: HTTPResponse.Status = .ok,
        returns type: JSONType<Value>, holdsSecret: Bool = false, id: String = #function,
        _ handle: @escaping @Sendable (APIRequest) async throws -> Value
    ) {
        self.init(summary, parameters, body: body, status: status, content: [("application/json", type.schema)], id: id)
        {
            var response = APIResponse.json(type.json(try await handle($0)), status: status)
            response.holdsSecret = holdsSecret
            return response
        }
    }

    /// An operation that makes its answer itself, in one of the media types `content`.
    init(
        _ summary: String, _ parameters: [Parameter] = [], body: JSON? = nil, status: HTTPResponse.Status = .ok,
        whenRepeated: HTTPResponse.Status? = nil, content: [(type: String, schema: JSON)], id: String = #function,
        _ handle: @escaping Handler
    ) {
        self.id = id
        self.summary = summary
        self.parameters = parameters
        self.body = body
        self.status = status
        statusWhenRepeated = whenRepeated
        self.content = content
        self.handle = handle
    }

    /// The same operation, and `next` when it has succeeded.
    func followed(by next: @escaping @Sendable (APIRequest) async throws -> Void) -> Operation {
        let first = handle
        return answered { request in
            let response = try await first(request)
            try await next(request)
            return response
        }
    }

    /// The same operation, answered by `handle`.
    func answered(by handle: @escaping Handler) -> Operation {
        var other = self
        other.handle = handle
        return other
    }

    /// The same operation, refused to everyone with `refusal`.
    func refusing(_ refusal: AppError?) -> Operation {
        var other = self
        other.refusal = refusal
        return other
    }
}
