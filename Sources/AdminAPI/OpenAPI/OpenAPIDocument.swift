import Domain
import HTTPSupport
import HTTPTypes

/// The OpenAPI 3.1 document of what both services serve, made from the routes themselves.
struct OpenAPIDocument: Sendable {
    private let endpoints: [Endpoint]

    init(_ endpoints: [Endpoint]) {
        self.endpoints = endpoints
    }

    /// `GET /openapi.json`, which describes itself too.
    static func endpoint(describing endpoints: [Endpoint]) -> Endpoint {
        let itself = { (handler: @escaping Endpoint.Handler) in
            Endpoint(.get, "/openapi.json", .anyone, "This document.", answers: ["type": "object"], handler)
        }
        let document = OpenAPIDocument(endpoints + [itself { _ in .json(.null) }]).json
        return itself { _ in .json(document) }
    }

    var json: JSON {
        [
            "openapi": "3.1.0",
            "info": [
                "title": "CodexFlow", "version": "1",
                "description": "Routes below /api/v1 answer RFC 9457 problems, the others below /api as Laravel does.",
            ],
            "paths": .object(paths + PlainOperation.all.map(\.path)),
            "components": [
                "securitySchemes": [
                    "token": ["type": "http", "scheme": "bearer", "description": "A token of Laravel Sanctum."],
                    "session": [
                        "type": "apiKey", "in": "cookie", "name": "laravel-session",
                        "description": "Laravel's session cookie, by its name there; changes need its X-CSRF-TOKEN.",
                    ],
                    "webhook": [
                        "type": "apiKey", "in": "header", "name": "X-API-Key",
                        "description": "LITELLM_WEBHOOK_KEY; taken from Authorization too.",
                    ],
                ],
                "schemas": [
                    "Problem": Schema.body(
                        [
                            "type": Schema.string, "title": Schema.string, "status": Schema.integer,
                            "detail": Schema.string, "code": Schema.string, "request_id": Schema.string,
                        ], optional: ["errors": Schema.map(of: Schema.list(Schema.string))]),
                    "LaravelError": Schema.body(
                        ["message": Schema.string], optional: ["errors": Schema.map(of: Schema.list(Schema.string))]),
                ],
            ],
        ]
    }

    private var paths: [JSON.Member] {
        let order = endpoints.map(\.path).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
        return order.map { path in
            .init(
                path,
                .object(
                    endpoints.filter { $0.path == path }.map { .init($0.method.rawValue.lowercased(), $0.operation) }))
        }
    }
}

extension Endpoint {
    fileprivate var operation: JSON {
        var members: [JSON.Member] = [
            .init("summary", .string(access == .admin ? "\(summary) Administrators only." : summary)),
            .init("security", access == .anyone ? [] : [["token": []], ["session": []]]),
            .init("parameters", .array(parameters.map(\.json))),
        ]
        if let body {
            let content: JSON = ["schema": body]
            let isRequired = body["required"]?.elements?.isEmpty == false
            members.append(
                .init("requestBody", ["required": .bool(isRequired), "content": ["application/json": content]]))
        }
        members.append(.init("responses", responses))
        return .object(members)
    }

    private var responses: JSON {
        let content = answers.map { JSON.Member($0.type, ["schema": $0.schema]) }
        let fine: JSON = ["description": .string(summary), "content": .object(content)]
        let problem: JSON =
            isLaravels
            ? ["application/json": ["schema": ["$ref": "#/components/schemas/LaravelError"]]]
            : ["application/problem+json": ["schema": ["$ref": "#/components/schemas/Problem"]]]
        let again = whenRepeated.map { [JSON.Member("\($0.code)", fine)] } ?? []
        let known: [JSON.Member] =
            method == .get ? [.init("304", ["description": "As the If-None-Match of the request has it."])] : []
        return .object(
            [.init("\(status.code)", fine)] + again + known + [
                .init("default", ["description": "What went wrong, and what to do.", "content": problem])
            ])
    }
}

extension Parameter {
    fileprivate var json: JSON {
        [
            "name": .string(name), "in": .string(place.rawValue), "required": .bool(place == .path),
            "description": .string(note), "schema": isRepeated ? Schema.list(schema) : schema,
        ]
    }
}

/// A route that is served beside the declared ones: health and metrics of each service, and what `webhook-api` serves.
struct PlainOperation: Sendable {
    struct Response: Sendable {
        let status: Int
        let description: String
        var type = "application/json"
        let schema: JSON

        init(_ status: Int, _ description: String, type: String = "application/json", _ schema: JSON) {
            (self.status, self.description, self.type, self.schema) = (status, description, type, schema)
        }
    }

    let method: HTTPRequest.Method
    let route: String
    let summary: String
    /// Whether LiteLLM's key is asked for; nobody's is where it is not.
    var needsKey = false
    /// Headers that mean something, and what.
    var headers: KeyValuePairs<String, String> = [:]
    /// The schema of each type of body it takes.
    var bodies: KeyValuePairs<String, JSON> = [:]
    let responses: [Response]

    /// Its entry in the document.
    var path: JSON.Member {
        var members: [JSON.Member] = [
            .init("summary", .string(summary)), .init("security", needsKey ? [["webhook": []]] : []),
            .init(
                "parameters",
                .array(
                    headers.map { name, note in
                        [
                            "name": .string(name), "in": "header", "required": false, "description": .string(note),
                            "schema": Schema.string,
                        ]
                    })),
        ]
        if !bodies.isEmpty {
            let content = bodies.map { JSON.Member($0.key, ["schema": $0.value]) }
            members.append(.init("requestBody", ["required": true, "content": .object(content)]))
        }
        members.append(.init("responses", .object(responses.map(\.json))))
        return .init(route, .object([.init(method.rawValue.lowercased(), .object(members))]))
    }

    static let all: [PlainOperation] =
        [
            PlainOperation(
                method: .get, route: "/health/live", summary: "Whether the process is alive; of each service.",
                responses: [Response(200, "It is.", Schema.healthy)]),
            PlainOperation(
                method: .get, route: "/health/ready", summary: "Whether it can do its work now; of each service.",
                responses: [
                    Response(200, "It can; `findings` are what should be known of Laravel's database.", Schema.ready),
                    Response(
                        503, "It cannot, and why.",
                        Schema.object([
                            "reasons": Schema.list(Schema.string), "status": Schema.choice(["unavailable"]),
                        ])),
                ]),
            PlainOperation(
                method: .get, route: "/metrics", summary: "Every metric, as Prometheus reads it; of each service.",
                responses: [Response(200, "In the text format 0.0.4.", type: "text/plain", Schema.string)]),
        ] + webhook
}

extension PlainOperation.Response {
    fileprivate var json: JSON.Member {
        .init("\(status)", ["description": .string(description), "content": [type: ["schema": schema]]])
    }
}

extension Schema {
    fileprivate static let healthy = object(["status": choice(["ok"])])

    fileprivate static let ready = closedBody(["status": choice(["ok"])], optional: ["findings": list(string)])
}
