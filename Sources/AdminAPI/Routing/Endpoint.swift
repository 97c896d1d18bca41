import Domain
import HTTPSupport
import HTTPTypes

/// One route, declared once: served, described in the OpenAPI document and walked by the tests from the same facts.
struct Endpoint: Sendable {
    /// Who may ask.
    enum Access: String, Sendable {
        case anyone, user, admin
    }

    /// What a Sanctum token must be able to do; a token whose abilities are `["*"]` may do everything.
    enum Ability: String, Sendable {
        case read, write
        /// See or replace the key that spends.
        case key
        case adminRead = "admin:read"
        case adminWrite = "admin:write"
    }

    typealias Handler = @Sendable (APIRequest) async throws -> APIResponse

    let method: HTTPRequest.Method
    /// In OpenAPI's form, such as `/api/v1/logs/{id}`.
    let path: String
    let access: Access
    let summary: String
    let parameters: [Parameter]
    /// The schema of the body it takes; `nil` where it takes none.
    let body: JSON?
    /// What it answers when all is well: each media type with its schema.
    let answers: [(type: String, schema: JSON)]
    let status: HTTPResponse.Status
    /// The status of the same answer to a request that is sent again.
    var whenRepeated: HTTPResponse.Status?
    /// `nil` where every token will do.
    private(set) var ability: Ability?
    /// Why nobody may ask, whoever it is; `nil` where they may.
    private(set) var refusal: AppError?
    let handle: Handler

    /// A route that answers JSON of `schema`, and what `others` say where it is asked for by `Accept`.
    init(
        _ method: HTTPRequest.Method, _ path: String, _ access: Access = .user, _ summary: String,
        _ parameters: [Parameter] = [], body: JSON? = nil, status: HTTPResponse.Status = .ok,
        whenRepeated: HTTPResponse.Status? = nil, answers schema: JSON, or others: [String] = [],
        _ handle: @escaping Handler
    ) {
        self.init(
            method, path, access, summary, parameters, body: body, status: status,
            answers: [("application/json", schema)] + others.map { ($0, Schema.string) }, handle)
        self.whenRepeated = whenRepeated
    }

    init(
        _ method: HTTPRequest.Method, _ path: String, _ access: Access, _ summary: String, _ parameters: [Parameter],
        body: JSON? = nil, status: HTTPResponse.Status = .ok, answers: [(type: String, schema: JSON)],
        _ handle: @escaping Handler
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.summary = summary
        self.parameters = parameters
        self.body = body
        self.status = status
        self.answers = answers
        self.handle = handle
        let reads = method == .get
        ability = access == .admin ? (reads ? .adminRead : .adminWrite) : reads ? .read : .write
    }

    /// The same route for tokens of this ability, whatever its method and access say.
    func needing(_ ability: Ability?) -> Endpoint {
        var other = self
        other.ability = ability
        return other
    }

    /// The same route, which is there and answers `refusal`.
    func refusing(_ refusal: AppError?) -> Endpoint {
        var other = self
        other.refusal = refusal
        return other
    }

    /// Whether a token of these abilities may ask: it has all, the route's own, or the route by its name, such as
    /// `GET /api/v1/logs`.
    func isOpen(to abilities: Set<String>) -> Bool {
        guard let ability else { return true }
        return !abilities.isDisjoint(with: ["*", ability.rawValue, "\(method.rawValue) \(path)"])
    }

    /// Whether it is one of Laravel's routes, with Laravel's manners.
    var isLaravels: Bool { path.hasPrefix("/api/") && !path.hasPrefix("/api/v1/") }
}
