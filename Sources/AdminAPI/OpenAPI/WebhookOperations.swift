import Domain
import HTTPSupport
import HTTPTypes

/// What `webhook-api` serves to LiteLLM.
extension PlainOperation {
    static let webhook: [PlainOperation] = [
        PlainOperation(
            method: .post, route: "/api/webhook/litellm",
            summary: "Events, answered after they are stored (webhook-api).", needsKey: true,
            headers: [
                "Idempotency-Key": "Names one documented event: sent again under it, it counts once.",
                "X-CodexFlow-Spool": "The id of the sender's spool, whose events are numbered.",
                "X-CodexFlow-First": "The number of the first event of the body.",
                "X-CodexFlow-Lost": "Events for which the sender had no room since it started.",
            ],
            bodies: [
                "application/json": Schema.either([Schema.event, Schema.list(Schema.optional(Schema.event))]),
                "application/x-ndjson": Schema.string,
            ],
            responses: [
                Response(
                    200, "A verdict for each event of LiteLLM's, in their order; or a documented one that was known.",
                    Schema.either([
                        Schema.verdicts, Schema.stored(again: "duplicate"), Schema.stored(again: "conflict"),
                    ])
                ),
                Response(201, "A documented event is stored.", Schema.stored()),
                Response(
                    202, "A documented event is kept and stored once its trouble is over.",
                    Schema.object([
                        "success": Schema.boolean, "quarantined": Schema.boolean, "reason": Schema.string,
                    ])),
                Response(400, "A documented event without user_id; kept all the same.", Schema.bareError),
                Response(404, "A documented event of an unknown user; kept all the same.", Schema.bareError),
            ] + refusals),
        PlainOperation(
            method: .post, route: "/api/litellm/authorize",
            summary: "Who holds a key, and what they may still use (webhook-api).", needsKey: true,
            bodies: [
                "application/json": Schema.body(["key_hash": ["type": "string", "pattern": "^[0-9a-f]{64}$"]])
            ],
            responses: [
                Response(
                    200, "Whether a call may be made, and if not why; null of a key that nobody holds.",
                    Schema.authorization),
                Response(400, "There is no key's hash in the body.", Schema.error),
            ] + refusals),
    ]

    private static let refusals = [
        Response(401, "The key is not LITELLM_WEBHOOK_KEY.", Schema.error),
        Response(403, "The address is not one of WEBHOOK_ALLOW.", Schema.error),
        Response(413, "The body is over WEBHOOK_MAX_BODY_BYTES, or of too many events.", Schema.error),
        Response(429, "Over WEBHOOK_RATE_LIMIT; Retry-After says how long.", Schema.error),
        Response(503, "Nothing was acknowledged: send it again after Retry-After.", Schema.error),
    ]
}

extension Schema {
    static func either(_ schemas: [JSON]) -> JSON { ["anyOf": .array(schemas)] }

    fileprivate static let bareError = object(["error": string])
    fileprivate static let error = object(["error": string, "message": string])

    /// What an event has that is read; whatever else it has is not kept, and nothing of it fails the event.
    fileprivate static let event: JSON = [
        "type": "object",
        "description": "LiteLLM's StandardLoggingPayload, or the documented form with user_id and usage.",
        "properties": .object(
            [
                "id", "litellm_call_id", "status", "model", "model_group", "response_cost", "startTime", "endTime",
                "prompt_tokens", "completion_tokens", "metadata", "error_information", "user_id", "usage", "response",
                "cost", "response_time", "event_id",
            ].map { JSON.Member($0, anything) }),
    ]

    fileprivate static let verdicts = body(
        [
            "success": boolean, "stored": integer, "duplicates": integer, "conflicts": integer, "quarantined": integer,
            "results": list(
                body(
                    [
                        "index": integer,
                        "status": choice(["stored", "duplicate", "conflict", "quarantined"]),
                    ], optional: ["log_id": integer, "reason": string])),
        ], optional: ["missing": list(list(integer))])

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
            ])),
    ])

    private static func allowance(of amount: JSON) -> JSON {
        object(["limit": optional(amount), "used": amount, "remaining": optional(amount)])
    }
}
