import Domain
import HTTPSupport
import HTTPTypes

/// A route beside the table of admin-api: health and metrics of each service, and the routes of webhook-api.
struct PlainOperation: Sendable {
    struct Response: Sendable {
        let status: Int
        let description: String
        let type: String
        let schema: JSON

        init(_ status: Int, _ description: String, type: String = "application/json", _ schema: JSON) {
            (self.status, self.description, self.type, self.schema) = (status, description, type, schema)
        }
    }

    /// OpenAPI's `operationId`.
    let id: String
    let method: HTTPRequest.Method
    let route: String
    let summary: String
    /// Whether LiteLLM's key is required.
    var needsKey = false
    /// The request headers that have a meaning, and their descriptions.
    var headers: KeyValuePairs<String, String> = [:]
    /// The schema of each media type of the request body.
    var bodies: KeyValuePairs<String, JSON> = [:]
    let responses: [Response]

    /// The operation in the document.
    var path: JSON.Member {
        let parameters = headers.map { name, description -> JSON in
            [
                "name": .string(name), "in": "header", "required": false, "description": .string(description),
                "schema": Schema.string,
            ]
        }
        var members: [JSON.Member] = [
            .init("operationId", .string(id)), .init("tags", [.string(OperationTag(path: route).rawValue)]),
            .init("summary", .string(summary)), .init("security", needsKey ? [["webhook": []]] : []),
            .init("parameters", .array(parameters)),
        ]
        if !bodies.isEmpty {
            let content = bodies.map { JSON.Member($0.key, ["schema": $0.value]) }
            members.append(.init("requestBody", ["required": true, "content": .object(content)]))
        }
        members.append(.init("responses", .object(responses.map(\.json))))
        return .init(route, .object([.init(method.rawValue.lowercased(), .object(members))]))
    }

    static let all: [PlainOperation] = service + webhook

    private static let service = [
        PlainOperation(
            id: "checkLiveness", method: .get, route: "/health/live",
            summary: "Whether the process is alive; of each service.",
            responses: [Response(200, "The process is alive.", Schema.healthy)]),
        PlainOperation(
            id: "checkReadiness", method: .get, route: "/health/ready",
            summary: "Whether the service can work now; of each service.",
            responses: [
                Response(200, "It can. `findings` are what to know of Laravel's database.", Schema.ready),
                Response(
                    503, "It cannot, and why.",
                    Schema.object(["reasons": Schema.list(Schema.string), "status": Schema.choice(["unavailable"])])),
            ]),
        PlainOperation(
            id: "getMetrics", method: .get, route: "/metrics",
            summary: "Every metric in Prometheus' text format; of each service.",
            responses: [Response(200, "Text format 0.0.4.", type: "text/plain", Schema.string)]),
    ]
}

extension PlainOperation.Response {
    fileprivate var json: JSON.Member {
        .init("\(status)", ["description": .string(description), "content": [type: ["schema": schema]]])
    }
}

/// What webhook-api serves to LiteLLM.
extension PlainOperation {
    static let webhook: [PlainOperation] = [
        PlainOperation(
            id: "receiveEvents", method: .post, route: "/api/webhook/litellm",
            summary: "Store events, and answer after the commit (webhook-api).", needsKey: true,
            headers: [
                "Idempotency-Key": "Names one documented event. Repeated requests under one key count once.",
                "X-CodexFlow-Spool": "The id of the sender's spool. Its events are numbered.",
                "X-CodexFlow-First": "The number of the first event of the body.",
                "X-CodexFlow-Lost": "Events that the sender dropped for lack of room since it started.",
            ],
            bodies: [
                "application/json": Schema.either([Schema.event, Schema.list(Schema.optional(Schema.event))]),
                "application/x-ndjson": Schema.string,
            ],
            responses: [
                Response(
                    200, "A verdict for each event of LiteLLM, in order; or a documented event that was stored before.",
                    Schema.either([
                        Schema.verdicts, Schema.stored(again: "duplicate"), Schema.stored(again: "conflict"),
                    ])
                ),
                Response(201, "A documented event is stored.", Schema.stored()),
                Response(
                    202, "A documented event is in quarantine, and is stored once its problem is solved.",
                    Schema.object([
                        "success": Schema.boolean, "quarantined": Schema.boolean, "reason": Schema.string,
                    ])),
                Response(400, "A documented event without user_id. It is in quarantine.", Schema.bareError),
                Response(404, "A documented event of an unknown user. It is in quarantine.", Schema.bareError),
            ] + refusals),
        PlainOperation(
            id: "authorizeKey", method: .post, route: "/api/litellm/authorize",
            summary: "The owner of a key, and what they may still use (webhook-api).", needsKey: true,
            bodies: [
                "application/json": Schema.body(["key_hash": ["type": "string", "pattern": "^[0-9a-f]{64}$"]])
            ],
            responses: [
                Response(
                    200, "Whether the request is allowed, and if not why. The fields of an unknown key are null.",
                    Schema.authorization),
                Response(400, "The body has no key hash.", Schema.error),
            ] + refusals),
    ]

    private static let refusals = [
        Response(401, "The key is not LITELLM_WEBHOOK_KEY.", Schema.error),
        Response(403, "The address is not one of WEBHOOK_ALLOW.", Schema.error),
        Response(413, "The body is over WEBHOOK_MAX_BODY_BYTES, or has too many events.", Schema.error),
        Response(429, "Over WEBHOOK_RATE_LIMIT; Retry-After says how long.", Schema.error),
        Response(503, "Nothing was acknowledged. Send it again after Retry-After.", Schema.error),
    ]
}

extension Schema {
    static func either(_ schemas: [JSON]) -> JSON { ["anyOf": .array(schemas)] }

    fileprivate static let bareError = object(["error": string])
    fileprivate static let error = object(["error": string, "message": string])

    /// The fields of an event that are read. Other fields are ignored, and no value of a field makes an event fail.
    fileprivate static let event = JSON.object([
        "type": "object",
        "description": "LiteLLM's StandardLoggingPayload, or the documented form with user_id and usage.",
        "properties": .object(
            [
                "id", "litellm_call_id", "status", "model", "model_group", "response_cost", "startTime", "endTime",
                "prompt_tokens", "completion_tokens", "metadata", "error_information", "user_id", "usage", "response",
                "cost", "response_time", "event_id",
            ].map { JSON.Member($0, anything) }),
    ]).named("IncomingEvent")

    fileprivate static let verdicts = body(
        [
            "success": boolean, "stored": integer, "duplicates": integer, "conflicts": integer, "quarantined": integer,
            "results": list(
                body(
                    [
                        "index": integer,
                        "status": choice(["stored", "duplicate", "conflict", "quarantined"]),
                    ], optional: ["log_id": integer, "reason": string]
                ).named("Verdict")),
        ], optional: ["missing": list(list(integer))]
    ).named("Verdicts")

    fileprivate static func stored(again word: String? = nil) -> JSON {
        object(of: [("success", boolean), ("log_id", integer)] + (word.map { [($0, boolean)] } ?? []))
    }

    fileprivate static let authorization = object([
        "user_id": optional(integer), "name": optional(string), "plan": optional(string), "status": optional(string),
        "allowed": boolean,
        "reason": optional(
            choice(["unknown_key", "suspended", "requests", "tokens", "budget"])),
        "models": optional(list(string)),
        "windows": list(
            object([
                "period": choice(QuotaPeriod.allCases.map(\.rawValue)), "resets_at": time,
                "requests": allowance(of: integer), "tokens": allowance(of: integer), "cost": allowance(of: money),
            ]).named("AuthorizationWindow")),
    ]).named("Authorization")

    private static func allowance(of amount: JSON) -> JSON {
        object(["limit": optional(amount), "used": amount, "remaining": optional(amount)])
    }
}

extension Schema {
    fileprivate static let healthy = object(["status": choice(["ok"])])

    fileprivate static let ready = closedBody(["status": choice(["ok"])], optional: ["findings": list(string)])
}
