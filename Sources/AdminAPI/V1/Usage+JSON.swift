import Domain
import HTTPSupport
import Storage

extension ReportRange {
    var json: JSON {
        ["from": .string(from.rfc3339), "to": .string(to.rfc3339), "timezone": .string(zone.name)]
    }
}

extension UsageSums {
    /// The sums with how long requests took; money as exact texts, and null where nobody knows a price.
    func json(_ latency: UsageLatency) -> JSON {
        [
            "requests": .integer(requests), "errors": .integer(errors), "rate_limited": .integer(rateLimited),
            "unpriced_requests": .integer(unpriced), "input_tokens": .integer(inputTokens),
            "output_tokens": .integer(outputTokens), "cached_tokens": .integer(cachedTokens),
            "reasoning_tokens": .integer(reasoningTokens), "total_tokens": .integer(tokens),
            "cost": (cost?.description).json, "ledger_cost": .string(ledgerCost.description),
            "error_rate": errorRate.ratio,
            "average_duration_ms": averageDuration.milliseconds, "duration_ms": latency.duration.json,
            "time_to_first_token_ms": latency.firstToken.json,
        ]
    }
}

extension UsageLatency.Percentiles? {
    /// Always with its members, so that rows have the same columns.
    fileprivate var json: JSON {
        ["p50": (self?.p50).milliseconds, "p95": (self?.p95).milliseconds, "p99": (self?.p99).milliseconds]
    }
}

extension Double? {
    /// A JSON number, or null.
    var json: JSON { map { .number($0.jsonLiteral) } ?? .null }

    /// Milliseconds with at most two decimals, or null: a percentile is known to 2 %, and a call to a millisecond.
    var milliseconds: JSON { map { ($0 * 100).rounded() / 100 }.json }

    /// A ratio with at most six decimals, or null.
    var ratio: JSON { map { ($0 * 1_000_000).rounded() / 1_000_000 }.json }
}

extension UsageSeries.Line {
    var identity: JSON { ["key": key.json, "is_others": .bool(isOthers)] }

    /// One object for each bucket.
    var values: [JSON] {
        sums.indices.map { sums[$0].json(latencies.indices.contains($0) ? latencies[$0] : UsageLatency()) }
    }
}

extension UsageBreakdown.Part {
    var json: JSON { JSON.object(["key": key.json, "groups": 1, "share": share.ratio]).merging(sums.json(latency)) }
}

extension UsageBreakdown.Others {
    var json: JSON {
        JSON.object(["key": nil, "groups": .integer(groups), "share": share.ratio]).merging(sums.json(UsageLatency()))
    }
}

extension JSON {
    /// An object without objects inside: `{a: {b: 1}}` is `{a_b: 1}`.
    var flattened: JSON {
        .object(
            (members ?? []).flatMap { member -> [Member] in
                guard let inner = member.value.flattenable else { return [member] }
                return inner.map { Member("\(member.key)_\($0.key)", $0.value) }
            })
    }

    private var flattenable: [Member]? { if case .object(let members) = self { members } else { nil } }
}

extension Schema {
    private static let percentiles = object([
        "p50": optional(number), "p95": optional(number), "p99": optional(number),
    ])
    private static let sumMembers: [(String, JSON)] = [
        ("requests", integer), ("errors", integer), ("rate_limited", integer), ("unpriced_requests", integer),
        ("input_tokens", integer), ("output_tokens", integer), ("cached_tokens", integer),
        ("reasoning_tokens", integer),
        ("total_tokens", integer), ("cost", optional(money)), ("ledger_cost", money), ("error_rate", optional(number)),
        ("average_duration_ms", optional(number)), ("duration_ms", percentiles),
        ("time_to_first_token_ms", percentiles),
    ]

    static let sums = object(of: sumMembers)
    static let part = object(
        of: [("key", optional(string)), ("groups", integer), ("share", optional(number))] + sumMembers)
    static let meta = object([
        "as_of": time, "complete_through": time, "quarantined": integer, "unpriced_requests": integer,
    ])
}
