import Domain
import Postgres

/// What holds an event. It is a class because it is turned into columns field by field. Copying the event for each
/// column would cost more than everything else.
protocol EventHolder: AnyObject, Sendable {
    /// The event.
    var event: UsageEvent { get }
}

extension AttributedEvent: EventHolder {}

/// Events as columns for `unnest`.
///
/// A column of NULLs alone is empty, because `unnest` fills shorter arrays with NULL.
struct EventColumns<Holder: EventHolder> {
    let events: [Holder]

    init(_ events: [Holder]) {
        self.events = events
    }

    private func column<T>(_ value: (UsageEvent) -> T) -> [T] { events.map { value($0.event) } }

    private func sparse<T>(_ value: (UsageEvent) -> T?) -> [T?] {
        let values = events.map { value($0.event) }
        return values.contains { $0 != nil } ? values : []
    }

    var keys: [EventKey] { column(\.key) }
    var occurredAt: [Int64] { column(\.occurredAt.microseconds) }
    var inputTokens: [Int64] { column(\.inputTokens) }
    var outputTokens: [Int64] { column(\.outputTokens) }
    var cachedTokens: [Int64] { column(\.cachedTokens) }
    var reasoningTokens: [Int64] { column(\.reasoningTokens) }
    var durations: [Int64?] { sparse(\.durationMilliseconds) }
    var timesToFirstToken: [Int64?] { sparse(\.timeToFirstTokenMilliseconds) }
    var digests: [Int64] { column(\.billableDigest) }
    var quotaTokens: [Int64] { column { QuotaContribution(of: $0).tokens } }
    var quotaRequests: [Int64] { column { QuotaContribution(of: $0).requests } }
    var streams: [Bool] { column(\.isStream) }
    var cacheHits: [Bool] { column(\.isCacheHit) }
    var costs: [String?] { sparse { $0.cost?.usd } }
    var laravelCosts: [String?] { sparse { $0.cost?.laravelUSD } }
    var zeroIsUnpriced: [Bool] { column(\.isUnpricedUnlessFree) }
    var shapes: [String] { column(\.shape.rawValue) }
    var statuses: [String] { column(\.status.rawValue) }
    var providers: [String?] { sparse(\.provider) }
    var modelGroups: [String] { column(\.modelGroup) }
    var deployments: [String?] { sparse(\.deployment) }
    var callTypes: [String?] { sparse(\.callType) }
    var errorCodes: [String?] { sparse(\.errorCode) }
    var errorMessages: [String?] { sparse(\.errorMessage) }
    var endUsers: [String?] { sparse(\.endUser) }
    /// The tags of each event, joined by U+001F (unit separator), because arrays of arrays must have equal lengths.
    var tags: [String?] {
        sparse { event in
            event.tags.isEmpty
                ? nil
                : event.tags.map { $0.utf8.contains(0x1F) ? $0.replacing("\u{1F}", with: " ") : $0 }
                    .joined(separator: "\u{1F}")
        }
    }
}

extension EventColumns {
    /// The arguments of `unnest` that every ingest statement has. ``names`` names them.
    var arrays: Query {
        """
        \(keys)::uuid[], \(occurredAt)::bigint[], \(inputTokens)::bigint[], \(outputTokens)::bigint[],
        \(cachedTokens)::bigint[], \(reasoningTokens)::bigint[], \(durations)::bigint[],
        \(timesToFirstToken)::bigint[], \(digests)::bigint[], \(quotaTokens)::bigint[], \(quotaRequests)::smallint[],
        \(streams)::boolean[], \(cacheHits)::boolean[], \(costs)::numeric[], \(laravelCosts)::numeric[],
        \(zeroIsUnpriced)::boolean[], \(shapes)::text[], \(statuses)::text[], \(providers)::text[],
        \(modelGroups)::text[], \(deployments)::text[], \(callTypes)::text[], \(errorCodes)::text[],
        \(errorMessages)::text[], \(endUsers)::text[], \(tags)::text[]
        """
    }

    /// The columns of ``arrays``.
    static var names: Query {
        """
        event_key, occurred_us, input_tokens, output_tokens, cached_tokens, reasoning_tokens, duration_ms,
        first_token_ms, billable_digest, quota_tokens, quota_requests, is_stream, is_cache_hit, cost, ledger_cost,
        zero_is_unpriced, shape, status, provider, model_group, deployment, call_type, error_code, error_message,
        end_user, tags
        """
    }
}

extension EventColumns<AttributedEvent> {
    var userIDs: [Int64] { events.map(\.userID) }
    var distinctUserIDs: [Int64] { Set(events.lazy.map(\.userID)).sorted() }
    var keyHashes: [[UInt8]?] { events.map { $0.keyHash?.bytes } }
    var flags: [String?] { events.map { UsageEvent.Flag.text(of: $0.flags) } }
}

extension UsageEvent.Flag {
    /// The names of `flags`, separated by commas; `nil` if there are none.
    static func text(of flags: [UsageEvent.Flag]) -> String? {
        flags.isEmpty ? nil : flags.map(\.rawValue).joined(separator: ",")
    }
}

extension EventKey: PostgresScalar {
    /// Appends the UUID.
    package func appendText(to text: inout [UInt8]) {
        Self.append(high >> 32, digits: 8, to: &text)
        for word in [high >> 16, high, low >> 48] {
            text.append(UInt8(ascii: "-"))
            Self.append(word, digits: 4, to: &text)
        }
        text.append(UInt8(ascii: "-"))
        Self.append(low, digits: 12, to: &text)
    }

    private static func append(_ word: UInt64, digits: Int, to text: inout [UInt8]) {
        for position in (0..<digits).reversed() {
            let digit = UInt8(truncatingIfNeeded: word >> UInt64(position * 4)) & 0xF
            text.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
    }

    /// The key of a UUID as PostgreSQL writes it.
    package init?(text: ArraySlice<UInt8>) {
        self.init(String(decoding: text, as: UTF8.self))
    }
}
