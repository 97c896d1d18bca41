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
            "paths": .object(paths + Self.elsewhere),
            "components": [
                "securitySchemes": [
                    "token": ["type": "http", "scheme": "bearer", "description": "A token of Laravel Sanctum."],
                    "session": [
                        "type": "apiKey", "in": "cookie", "name": "laravel-session",
                        "description": "Laravel's session cookie, by its name there; changes need its X-CSRF-TOKEN.",
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

    /// What is served beside the declared routes: health and metrics of each service, and the webhook.
    private static let elsewhere: [JSON.Member] = [
        plain("/health/live", "Whether the process is alive.", ["200"]),
        plain("/health/ready", "Whether it can do its work now.", ["200", "503"]),
        plain("/metrics", "Every metric, in Prometheus' text format.", ["200"]),
        .init(
            "/api/webhook/litellm",
            [
                "post": [
                    "summary": "LiteLLM's events, answered after they are stored (webhook-api).",
                    "security": [],
                    "parameters": [
                        [
                            "name": "X-API-Key", "in": "header", "required": true, "schema": Schema.string,
                            "description": "LITELLM_WEBHOOK_KEY.",
                        ]
                    ],
                    "requestBody": ["required": true, "content": ["application/json": ["schema": Schema.anything]]],
                    "responses": .object(
                        ["200", "201", "202", "400", "401", "404", "413", "503"].map { status in
                            .init(
                                status,
                                [
                                    "description": "See README.",
                                    "content": ["application/json": ["schema": ["type": "object"]]],
                                ])
                        }),
                ]
            ]),
    ]

    private static func plain(_ path: String, _ summary: String, _ statuses: [String]) -> JSON.Member {
        .init(
            path,
            [
                "get": [
                    "summary": .string(summary), "security": [],
                    "responses": .object(statuses.map { .init($0, ["description": .string(summary)]) }),
                ]
            ])
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
