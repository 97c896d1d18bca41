import Domain
import HTTPSupport
import HTTPTypes

/// The OpenAPI 3.1 document of both services, made from the table of routes and ``PlainOperation``.
struct OpenAPIDocument: Sendable {
    private let routes: [Route]

    init(_ routes: [Route]) {
        self.routes = routes
    }

    /// `GET /openapi.json`, which describes itself too.
    static func route(describing routes: [Route]) -> Route {
        let document = OpenAPIDocument(routes + [getOpenAPI(.null)]).json
        return getOpenAPI(document)
    }

    private static func getOpenAPI(_ document: JSON) -> Route {
        let type = JSONType<JSON>(["type": "object"]) { $0 }
        return Route(
            .get, "/openapi.json", .anyone,
            Operation("This document.", returns: type, id: "getOpenAPI") { _ in document })
    }

    var json: JSON {
        var components = Components()
        let paths = components.extracting(from: .object(paths + PlainOperation.all.map(\.path)))
        let tags = OperationTag.allCases.map { tag -> JSON in
            ["name": .string(tag.rawValue), "description": .string(tag.description)]
        }
        return [
            "openapi": "3.1.0",
            "info": [
                "title": "CodexFlow", "version": "1",
                "description":
                    "Routes below /api/v1 answer RFC 9457 problems. Other routes below /api answer as Laravel.",
            ],
            "tags": .array(tags), "paths": paths,
            "components": ["securitySchemes": Self.securitySchemes, "schemas": .object(components.schemas)],
        ]
    }

    private static let securitySchemes: JSON = [
        "token": ["type": "http", "scheme": "bearer", "description": "A token of Laravel Sanctum."],
        "session": [
            "type": "apiKey", "in": "cookie", "name": "laravel-session",
            "description": "Laravel's session cookie, by its name there. Changes also need its X-CSRF-TOKEN.",
        ],
        "webhook": [
            "type": "apiKey", "in": "header", "name": "X-API-Key",
            "description": "LITELLM_WEBHOOK_KEY, which may also stand in Authorization.",
        ],
    ]

    private var paths: [JSON.Member] {
        let order = routes.map(\.path).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
        return order.map { path in
            let methods = routes.filter { $0.path == path }
            return .init(
                path, .object(methods.map { .init($0.method.rawValue.lowercased(), $0.description) }))
        }
    }
}

/// The groups of operations in the document.
enum OperationTag: String, CaseIterable {
    case laravel, me, logs, analytics, stream, admin, webhook, service

    /// The group of a route of `path`.
    init(path: String) {
        let parts = path.split(separator: "/")
        switch (parts.first, parts.dropFirst().first) {
        case ("api", "v1"): self = parts.dropFirst(2).first.flatMap { Self(rawValue: String($0)) } ?? .service
        case ("api", "webhook"), ("api", "litellm"): self = .webhook
        case ("api", _): self = .laravel
        default: self = .service
        }
    }

    var description: String {
        switch self {
        case .laravel: "Laravel's routes, with Laravel's answers."
        case .me: "The caller."
        case .logs: "Single logs."
        case .analytics: "Usage reports."
        case .stream: "New logs and totals as they come."
        case .admin: "Administrators only."
        case .webhook: "Routes of webhook-api, for LiteLLM."
        case .service: "Health, metrics and this document."
        }
    }
}

/// The named schemas of a document. Where one of them is used, a `$ref` to it stands.
private struct Components {
    private(set) var schemas: [JSON.Member] = []

    /// `json` with a reference in place of each named schema. A name has one schema.
    mutating func extracting(from json: JSON) -> JSON {
        switch json {
        case .array(let elements): return .array(elements.map { extracting(from: $0) })
        case .object(let members):
            let name = json["title"]?.text
            let inner = JSON.object(
                members.filter { name == nil || $0.key != "title" }.map { member in
                    let isExample = ["example", "examples"].contains(member.key)
                    return .init(member.key, isExample ? member.value : extracting(from: member.value))
                })
            guard let name else { return inner }
            let known = schemas.first { $0.key == name }
            precondition(known == nil || known?.value == inner, "two schemas are named \(name)")
            if known == nil { schemas.append(.init(name, inner)) }
            return ["$ref": .string("#/components/schemas/\(name)")]
        default: return json
        }
    }
}

extension Route {
    /// The route in the document.
    fileprivate var description: JSON {
        let summary = access == .admin ? "\(operation.summary) Administrators only." : operation.summary
        var members: [JSON.Member] = [
            .init("operationId", .string(operation.id)),
            .init("tags", [.string(OperationTag(path: path).rawValue)]), .init("summary", .string(summary)),
            .init("security", access == .anyone ? [] : [["token": []], ["session": []]]),
            .init("parameters", .array(operation.parameters.map(\.json))),
        ]
        if let body = operation.body {
            let content: JSON = ["schema": body, "example": Schema.example(of: body)]
            let isRequired = body["required"]?.elements?.isEmpty == false
            members.append(
                .init("requestBody", ["required": .bool(isRequired), "content": ["application/json": content]]))
        }
        members.append(.init("responses", responses))
        return .object(members)
    }

    private var responses: JSON {
        let content = operation.content.map { type, schema -> JSON.Member in
            let isJSON = type == "application/json"
            return .init(type, isJSON ? ["schema": schema, "example": Schema.example(of: schema)] : ["schema": schema])
        }
        let success: JSON = ["description": .string(operation.summary), "content": .object(content)]
        let error: JSON =
            isLaravel
            ? ["application/json": ["schema": Schema.laravelError]]
            : ["application/problem+json": ["schema": Schema.problem]]
        let repeated = operation.statusWhenRepeated.map { [JSON.Member("\($0.code)", success)] } ?? []
        let unchanged: [JSON.Member] =
            method == .get
            ? [.init("304", ["description": "Unchanged since the answer that If-None-Match names."])] : []
        return .object(
            [.init("\(operation.status.code)", success)] + repeated + unchanged + [
                .init("default", ["description": "The error, and what to do.", "content": error])
            ])
    }
}

extension Parameter {
    fileprivate var json: JSON {
        [
            "name": .string(name), "in": .string(location.rawValue), "required": .bool(location == .path),
            "description": .string(description), "schema": isRepeated ? Schema.list(schema) : schema,
            "example": isRepeated ? [example] : example,
        ]
    }
}

extension Schema {
    private static let fieldErrors = map(of: list(string))

    /// An RFC 9457 problem.
    static let problem = body(
        [
            "type": string.withExample("about:blank"), "title": string.withExample("Not Found"),
            "status": integer.withExample(404), "detail": string, "code": string.withExample("not_found"),
            "request_id": string,
        ], optional: ["cause": choice(AppError.Cause.allCases.map(\.rawValue)), "errors": fieldErrors]
    ).named("Problem")

    static let laravelError = body(["message": string], optional: ["errors": fieldErrors]).named("LaravelError")
}
