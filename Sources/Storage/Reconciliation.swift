package import Domain
package import Postgres

/// One hour of one key: the calls that LiteLLM's own database counts, and those stored here.
package struct HourOfKey: Sendable, Hashable {
    /// An hour and a key.
    package struct ID: Sendable, Hashable, Comparable {
        /// Hours since 1970.
        package var hour: Int64
        /// The key's SHA-256 in hexadecimal.
        package var keyHash: String

        /// The `hour` of the key with `keyHash`.
        package init(hour: Int64, keyHash: String) {
            self.hour = hour
            self.keyHash = keyHash
        }

        /// The moment at which the hour begins.
        package var start: Timestamp { Timestamp(microseconds: hour * 3_600_000_000) }

        package static func < (left: ID, right: ID) -> Bool {
            (left.hour, left.keyHash) < (right.hour, right.keyHash)
        }
    }

    /// The calls that a provider worked for, with their tokens and cost.
    package struct Sum: Sendable, Hashable {
        /// The number of calls.
        package var calls: Int64 = 0
        /// Their tokens.
        package var tokens: Int64 = 0
        /// Their cost.
        package var cost = Money.zero
    }

    /// The hour and the key.
    package var id: ID
    /// What LiteLLM counts.
    package var litellm = Sum()
    /// What is stored here.
    package var here = Sum()
    /// LiteLLM's calls that wait in quarantine here, or were discarded there.
    package var aside: Int64 = 0
    /// LiteLLM's calls that are not stored here.
    package var missing: Int64 = 0

    /// An hour of a key without calls.
    package init(id: ID) {
        self.id = id
    }

    /// Whether both count the same, except for what waits in quarantine.
    package var isEqual: Bool {
        missing == 0 && litellm.calls == here.calls + aside
            && (aside > 0 || litellm.tokens == here.tokens && litellm.cost == here.cost)
    }
}

/// LiteLLM's own table of calls that a provider worked for, `LiteLLM_SpendLogs`. We only read it.
///
/// A row has the start in milliseconds at best, so no event key can be made from it alone. Our module gives each call a
/// UUID of version 7, which LiteLLM keeps in the row. The event has that UUID and the start that is in it, so the event
/// key can be made again exactly. Failures count only with tokens or a cost, which rows have since LiteLLM 1.109. Of
/// the other failures LiteLLM keeps one row, while we get one event for each attempt.
package enum SpendLogs {
    /// A call that a provider worked for.
    package struct Call: Sendable, Hashable {
        /// The hour in which it began, and its key.
        package var hourOfKey: HourOfKey.ID
        /// Its event, as our module would have sent it.
        package var event: String
        /// Whether the row has our module's UUID of the call.
        package var isIdempotent: Bool
        /// When it failed; `nil` for a served call.
        package var failedAt: Timestamp?

        /// A call as a row of LiteLLM's table has it.
        package init(hourOfKey: HourOfKey.ID, event: String, isIdempotent: Bool, failedAt: Timestamp? = nil) {
            self.hourOfKey = hourOfKey
            self.event = event
            self.isIdempotent = isIdempotent
            self.failedAt = failedAt
        }
    }

    /// Rows of a page; those of one moment stay together.
    package static let pageSize = 2_000
    /// Hours after which LiteLLM gives up a call. Its start is at most so much later than our module's.
    private static let slack = 2

    /// LiteLLM's sums for each hour and key that begins in `range`.
    ///
    /// - Throws: ``PostgresError``.
    package static func sums(
        _ range: Range<Timestamp>, in schema: String = "public", _ connection: Connection
    ) throws -> [HourOfKey.ID: HourOfKey.Sum] {
        let rows = try connection.query(
            """
            SELECT c.began / 3600000, c.api_key, count(*), sum(c.prompt_tokens::bigint + c.completion_tokens)::bigint,
                   sum(CASE WHEN c.spend = ANY('{NaN,Infinity,-Infinity}') THEN 0
                            ELSE round(c.spend::text::numeric, 12) END)
            FROM (\(calls(range, in: schema))) c
            GROUP BY 1, 2
            """)
        return try HourOfKey.sums(rows)
    }

    /// A page of the calls of some keys that begin in `range`, in the order of LiteLLM's time, after `cursor`. Returns
    /// the next cursor too, `nil` at the end.
    ///
    /// - Throws: ``PostgresError``.
    package static func page(
        _ range: Range<Timestamp>, in schema: String = "public", keys: [String], after cursor: String?,
        _ connection: Connection
    ) throws -> (calls: [Call], next: String?) {
        let rows = try connection.query(
            """
            SELECT c.began / 3600000, c.api_key, c.call IS NOT NULL, \(event)::text, c."startTime"::text,
                   CASE WHEN c.is_failure THEN (extract(epoch FROM c."endTime") * 1000000)::bigint END
            FROM (\(calls(range, in: schema))) c
            WHERE c.api_key = ANY(\(keys)::text[]) AND c."startTime" > coalesce(\(cursor)::timestamp, '-infinity')
            ORDER BY c."startTime" FETCH FIRST \(unsafeSQL: "\(pageSize)") ROWS WITH TIES
            """)
        let calls = try rows.map { row in
            let (hour, key, isIdempotent, event) = try row.decode(Int64.self, String.self, Bool.self, String.self)
            let failedAt = try row.decode(5, as: Int64?.self).map(Timestamp.init(microseconds:))
            return Call(
                hourOfKey: .init(hour: hour, keyHash: key), event: event, isIdempotent: isIdempotent,
                failedAt: failedAt)
        }
        return (calls, rows.count < pageSize ? nil : try rows.last?.decode(4))
    }

    /// The calls of customers' keys that a provider worked for and that begin in `range`, with our module's UUID
    /// (`call`), the start in milliseconds (`began`), and whether they failed.
    private static func calls(_ range: Range<Timestamp>, in schema: String) -> Query {
        let (from, to) = (range.lowerBound, range.upperBound)
        return """
            SELECT s.*, m.call, b.began, coalesce(s.status, 'success') <> 'success' AS is_failure
            FROM \(unsafeSQL: schema.quotedIdentifier)."LiteLLM_SpendLogs" s
            CROSS JOIN LATERAL (
                SELECT substring(s.metadata -> 'spend_logs_metadata' ->> 'codexflow_call'
                                 FROM '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$') AS call
            ) m
            CROSS JOIN LATERAL (
                SELECT coalesce(('x' || left(replace(m.call, '-', ''), 12))::bit(48)::bigint,
                                (extract(epoch FROM s."startTime") * 1000)::bigint) AS began
            ) b
            WHERE s."startTime" >= \(from) AT TIME ZONE 'UTC'
              AND s."startTime" < \(to) AT TIME ZONE 'UTC' + \(slack)::integer * interval '1 hour'
              AND b.began >= \(from.milliseconds)::bigint AND b.began < \(to.milliseconds)::bigint
              AND s.api_key ~ '^[0-9a-f]{64}$'
              AND (coalesce(s.status, 'success') = 'success' OR s.prompt_tokens > 0 OR s.completion_tokens > 0
                   OR s.spend > 0 AND s.spend < 'Infinity')
            """
    }

    /// The event of a call `c`, with the members that our module sends. No row says that a call was a stream: the first
    /// token of a stream came before its end.
    private static let event: Query = """
        json_build_object(
            'id', CASE WHEN c.call IS NULL THEN c.request_id
                       ELSE regexp_replace(c.request_id, '_cache_hit[0-9.]+$', '') END,
            'litellm_call_id', c.call, 'call_type', c.call_type,
            'status', CASE WHEN c.is_failure THEN 'failure' ELSE 'success' END,
            'error_information', CASE WHEN c.is_failure THEN json_build_object(
                'error_code', c.metadata -> 'error_information' -> 'error_code',
                'error_class', c.metadata -> 'error_information' -> 'error_class',
                'error_message', c.metadata -> 'error_information' -> 'error_message') END,
            'stream', c."completionStartTime" < c."endTime",
            'startTime', \(literal("(c.began / 1000.0)::float8")), 'endTime', \(moment("c.\"endTime\"")),
            'completionStartTime', \(moment("c.\"completionStartTime\"")),
            'response_cost', \(literal("c.spend")), 'prompt_tokens', c.prompt_tokens,
            'completion_tokens', c.completion_tokens,
            'cache_hit', c.cache_hit = 'True', 'model', c.model, 'model_group', c.model_group,
            'custom_llm_provider', c.custom_llm_provider, 'end_user', c.end_user, 'request_tags', c.request_tags,
            'metadata', json_build_object(
                'user_api_key_hash', c.api_key, 'user_api_key_user_id', nullif(c."user", ''),
                'usage_object', c.metadata -> 'usage_object')
        )
        """

    /// The JSON number that Python writes for a `float8`. Its digits are part of the event key.
    private static func literal(_ number: String) -> Query {
        Query(
            unsafeSQL: """
                (CASE WHEN \(number) = ANY('{NaN,Infinity,-Infinity}') THEN 'null'
                 WHEN \(number) = trunc(\(number)) AND abs(\(number)) < 1e15 THEN \(number)::text || '.0'
                 ELSE \(number)::text END)::json
                """)
    }

    /// A moment, at the same distance from the event's start as from LiteLLM's.
    private static func moment(_ column: String) -> Query {
        Query(unsafeSQL: "c.began / 1000.0 + extract(epoch FROM \(column) - c.\"startTime\")")
    }
}

extension HourOfKey {
    /// The sums in rows of hour, key, calls, tokens and cost.
    ///
    /// - Throws: ``PostgresError`` when a column has another type.
    static func sums(_ rows: [Row]) throws -> [ID: Sum] {
        let sums = try rows.map { row in
            let (hour, key, calls, tokens, cost) = try row.decode(
                Int64.self, String.self, Int64.self, Int64.self, Money.self)
            return (ID(hour: hour, keyHash: key), Sum(calls: calls, tokens: tokens, cost: cost))
        }
        return Dictionary(uniqueKeysWithValues: sums)
    }
}

/// Which of LiteLLM's calls, served or failed with tokens or a cost, are stored here.
package enum ServedCalls {
    /// The state of a call here.
    package enum State: String, Sendable {
        /// It is stored.
        case here
        /// It is in quarantine, was discarded there, or was withdrawn.
        case aside
        /// It is unknown here.
        case missing
    }

    /// The stored sums for each hour and key that begins in `range`: LiteLLM's events of calls that a provider worked
    /// for.
    ///
    /// - Throws: ``PostgresError``.
    package static func sums(
        _ range: Range<Timestamp>, _ connection: Connection
    ) throws -> [HourOfKey.ID: HourOfKey.Sum] {
        let rows = try connection.query(
            """
            SELECT floor(extract(epoch FROM e.occurred_at) / 3600)::bigint, encode(e.key_hash, 'hex'), count(*),
                   sum(e.input_tokens + e.output_tokens)::bigint, coalesce(sum(e.cost), 0)
            FROM metering.events e
            WHERE e.event_key >= \(EventKey.first(at: range.lowerBound).description)::uuid
              AND e.event_key < \(EventKey.first(at: range.upperBound).description)::uuid
              AND e.shape = 'litellm' AND e.key_hash IS NOT NULL
              AND (e.status = 'success' OR e.input_tokens > 0 OR e.output_tokens > 0 OR e.cost > 0)
            GROUP BY 1, 2
            """)
        return try HourOfKey.sums(rows)
    }

    /// The state of each call, in order.
    ///
    /// A call with our module's UUID is found by its event key. Another call is found by its key hash, its tokens and
    /// its start, which LiteLLM's database has rounded. Of several such calls in one millisecond as many are here as
    /// there are events. A failed call has no UUID, as each attempt is an event. It matches an event of its key with
    /// its tokens that began before it failed.
    ///
    /// - Throws: ``PostgresError``.
    package static func find(
        _ calls: [(item: IngestItem, call: SpendLogs.Call)], _ connection: Connection
    ) throws -> [State] {
        let items = calls.map(\.item)
        let keys = items.map(\.key)
        let rows = try connection.query(
            """
            WITH call AS (
                SELECT *, row_number() OVER (
                           PARTITION BY key_hash, low, input_tokens, output_tokens, is_failure ORDER BY n) AS nth
                FROM unnest(
                    \(keys.map(\.description))::uuid[], \(calls.map(\.call.isIdempotent))::boolean[],
                    \(calls.map(\.call.hourOfKey.keyHash))::text[], \(keys.map { $0.around(-1) })::uuid[],
                    \(zip(keys, calls).map { $0.around(2, orAt: $1.call.failedAt) })::uuid[],
                    \(calls.map { $0.call.failedAt != nil })::boolean[],
                    \(items.map { $0.event?.inputTokens ?? 0 })::bigint[],
                    \(items.map { $0.event?.outputTokens ?? 0 })::bigint[]
                ) WITH ORDINALITY AS c (
                    event_key, is_named, key_hash, low, high, is_failure, input_tokens, output_tokens, n)
            ), twins AS (
                SELECT c.n, c.event_key, c.nth, t.stored, t.withdrawn
                FROM call c
                LEFT JOIN LATERAL (
                    SELECT (SELECT count(*) FROM metering.events e
                            WHERE e.event_key >= c.low AND e.event_key < c.high
                              AND e.key_hash = decode(c.key_hash, 'hex')
                              AND e.input_tokens = c.input_tokens AND e.output_tokens = c.output_tokens
                              AND (e.status <> 'success') = c.is_failure) AS stored,
                           (SELECT count(*) FROM metering.withdrawn_events e
                            WHERE e.event_key >= c.low AND e.event_key < c.high
                              AND e.key_hash = decode(c.key_hash, 'hex')
                              AND e.input_tokens = c.input_tokens AND e.output_tokens = c.output_tokens
                              AND (e.facts ->> 'status' <> 'success') = c.is_failure) AS withdrawn
                ) t ON NOT c.is_named OR c.is_failure
            )
            SELECT CASE
                WHEN EXISTS (SELECT FROM metering.events e WHERE e.event_key = c.event_key) THEN 'here'
                WHEN EXISTS (SELECT FROM metering.withdrawn_events w WHERE w.event_key = c.event_key) THEN 'aside'
                WHEN EXISTS (SELECT FROM metering.quarantine q WHERE q.id = c.event_key) THEN 'aside'
                WHEN c.nth <= c.stored THEN 'here'
                WHEN c.nth <= c.stored + c.withdrawn THEN 'aside'
                ELSE 'missing' END
            FROM twins c ORDER BY c.n
            """)
        return try rows.map { State(rawValue: try $0.decode(0)) ?? .missing }
    }
}

extension EventKey {
    /// The lowest key of a start so many milliseconds later; or so many after `moment`, where that is later.
    fileprivate func around(_ milliseconds: Int64, orAt moment: Timestamp? = nil) -> String {
        let start = max(Int64(high >> 16), moment?.milliseconds ?? 0) + milliseconds
        return EventKey.first(at: Timestamp(microseconds: start * 1000)).description
    }
}
