import HTTPSupport
import HTTPTypes

/// One route, declared once: served, described in the OpenAPI document and walked by the tests from the same facts.
struct Endpoint: Sendable {
    /// Who may ask.
    enum Access: String, Sendable {
        case anyone, user, admin
    }

    typealias Handler = @Sendable (Call) async throws -> Answer

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
    }

    /// Whether it is one of Laravel's routes, with Laravel's manners.
    var isLaravels: Bool { path.hasPrefix("/api/") && !path.hasPrefix("/api/v1/") }
}
