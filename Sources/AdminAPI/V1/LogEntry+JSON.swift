import Domain
import HTTPSupport
import Storage

extension LogEntry {
    /// The log with its exact facts. A fact that no sender reported is null.
    var json: JSON { .object(zip(Self.columns, values).map { .init($0.name, $1) }) }

    /// The members of a call and their schemas, in order; the columns of an export.
    static let columns: [(name: String, schema: JSON)] = [
        ("id", Schema.integer), ("user_id", Schema.integer), ("occurred_at", Schema.optional(Schema.time)),
        ("model", Schema.string), ("provider", Schema.optional(Schema.string)),
        ("deployment", Schema.optional(Schema.string)), ("call_type", Schema.optional(Schema.string)),
        ("status", Schema.string), ("input_tokens", Schema.integer), ("output_tokens", Schema.integer),
        ("cached_tokens", Schema.optional(Schema.integer)), ("reasoning_tokens", Schema.optional(Schema.integer)),
        ("cost", Schema.optional(Schema.money)), ("ledger_cost", Schema.money),
        ("duration_ms", Schema.optional(Schema.integer)), ("time_to_first_token_ms", Schema.optional(Schema.integer)),
        ("is_stream", Schema.optional(Schema.boolean)), ("is_cache_hit", Schema.optional(Schema.boolean)),
        ("error_code", Schema.optional(Schema.string)), ("error_message", Schema.optional(Schema.string)),
        ("end_user", Schema.optional(Schema.string)), ("tags", Schema.list(Schema.string)),
        ("flags", Schema.flags), ("plan", Schema.optional(Schema.string)),
        ("event_key", Schema.optional(Schema.string)),
    ]

    /// USD, exact; `nil` where nobody knows the price.
    var cost: Money? { if let facts { facts.cost } else { row.cost } }

    /// USD as Laravel's column has it; 0 where that is no cost.
    var laravelCost: Money { row.cost ?? .zero }

    /// The values of ``columns``.
    var values: [JSON] {
        [
            .integer(row.id), .integer(row.userID), (facts?.occurredAt ?? row.createdAt).json, .string(row.model),
            (facts?.provider).json, (facts?.deployment).json, (facts?.callType).json, .string(row.status),
            .integer(facts?.inputTokens ?? row.inputTokens), .integer(facts?.outputTokens ?? row.outputTokens),
            (facts?.cachedTokens).json, (facts?.reasoningTokens).json, (cost?.description).json,
            .string(laravelCost.description),
            facts.map(\.duration).json(or: row.duration), (facts?.timeToFirstToken).json,
            facts.map { .bool($0.isStream) } ?? .null, facts.map { .bool($0.isCacheHit) } ?? .null,
            (facts?.errorCode).json, row.errorMessage.json, (facts?.endUser).json,
            .array((facts?.tags ?? []).map(JSON.string)), .array(flags.map(JSON.string)),
            (facts?.plan).json, (facts?.key).json,
        ]
    }
}

extension Int64?? {
    /// What the facts say, even that they say nothing; without facts `fallback`.
    fileprivate func json(or fallback: Int64) -> JSON { map(\.json) ?? .integer(fallback) }
}

extension Schema {
    /// What is special about a call, such as `usage_estimated`.
    static let flag = choice(UsageEvent.Flag.allCases.map(\.rawValue)).named("LogFlag")
    static let flags = list(flag)
    static let log = object(of: LogEntry.columns.map { ($0.name, $0.schema) }).named("Log")
}
