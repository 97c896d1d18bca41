package import Domain
package import Postgres

/// One hour of one key: what LiteLLM's own database counts, and what is here.
package struct HourOfKey: Sendable, Hashable {
    /// Where a count is of: an hour since 1970, and a key's SHA-256 in hexadecimal.
    package struct Place: Sendable, Hashable, Comparable {
        package var hour: Int64
        package var keyHash: String

        package init(hour: Int64, keyHash: String) {
            self.hour = hour
            self.keyHash = keyHash
        }

        /// The moment at which the hour begins.
        package var start: Timestamp { Timestamp(microseconds: hour * 3_600_000_000) }

        package static func < (left: Place, right: Place) -> Bool {
            (left.hour, left.keyHash) < (right.hour, right.keyHash)
        }
    }

    /// Calls that a provider worked for, their tokens and their cost.
    package struct Sum: Sendable, Hashable {
        package var calls: Int64 = 0
        package var tokens: Int64 = 0
        package var cost = Money.zero
    }

    package var place: Place
    package var litellm = Sum()
    package var here = Sum()
    /// Calls of LiteLLM's that wait in quarantine here, or were discarded there.
    package var aside: Int64 = 0
    /// Calls of LiteLLM's of which nothing is known here.
    package var missing: Int64 = 0

    package init(place: Place) {
        self.place = place
    }

    /// Whether both say the same, but for what waits in quarantine.
    package var isEqual: Bool {
        missing == 0 && litellm.calls == here.calls + aside
            && (aside > 0 || litellm.tokens == here.tokens && litellm.cost == here.cost)
    }
}

/// LiteLLM's own record of calls that a provider worked for, its table `LiteLLM_SpendLogs`, which is only read.
///
/// A row tells the start in milliseconds at best, so no key can be made of it alone. Our module has LiteLLM keep its
/// name of the call there, a UUID of version 7, and sends the event under that name and with the start that the name
/// tells: so the key is made again exactly. Of failures only those count that have tokens or a cost, which rows have
/// since LiteLLM 1.109: of the others LiteLLM keeps one row where we get each attempt.
package enum SpendLogs {
    /// A call that a provider worked for.
    package struct Call: Sendable, Hashable {
        package var place: HourOfKey.Place
        /// Its event, as our module would have sent it.
        package var event: String
        /// Whether our module named it.
        package var isIdempotent: Bool
        /// When it failed; `nil` of a served call.
        package var failedAt: Timestamp?

        package init(place: HourOfKey.Place, event: String, isIdempotent: Bool, failedAt: Timestamp? = nil) {
            self.place = place
            self.event = event
            self.isIdempotent = isIdempotent
            self.failedAt = failedAt
        }
    }

    /// Rows of a page; those of one moment stay together.
    package static let pageSize = 2_000
    /// Hours until LiteLLM gives up a call: as much later than our module's start may its own be.
    private static let slack = 2

    /// What LiteLLM counts for each hour and key that begins in `range`.
    ///
    /// - Throws: ``PostgresError``.
    package static func sums(
        _ range: Range<Timestamp>, in schema: String = "public", _ connection: Connection
    ) throws -> [HourOfKey.Place: HourOfKey.Sum] {
        let rows = try connection.query(
            """
            SELECT c.began / 3600000, c.api_key, count(*), sum(c.prompt_tokens::bigint + c.completion_tokens)::bigint,
                   sum(CASE WHEN c.spend = ANY('{NaN,Infinity,-Infinity}') THEN 0 ELSE round(c.spend::text::numeric, 12) END)
            FROM (\(calls(range, in: schema))) c
            GROUP BY 1, 2
            """)
        return try HourOfKey.sums(rows)
    }

    /// A page of the calls of some keys that begin in `range`, in the order of LiteLLM's time, behind `cursor`; and the next
    /// cursor, `nil` at the end.
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
            return Call(place: .init(hour: hour, keyHash: key), event: event, isIdempotent: isIdempotent, failedAt: failedAt)
        }
        return (calls, rows.count < pageSize ? nil : try rows.last?.decode(4))
    }

    /// The calls of customers' keys that a provider worked for and that begin in `range`, with our name (`call`), the
    /// start in milliseconds (`began`), and whether they failed.
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

    /// The event of a call `c`: what `codexflow.py` keeps of LiteLLM's, by the same names. No stream says that it was one: its
    /// first token came before its end.
    private static let event: Query = """
        json_build_object(
            'id', CASE WHEN c.call IS NULL THEN c.request_id ELSE regexp_replace(c.request_id, '_cache_hit[0-9.]+$', '') END,
            'litellm_call_id', c.call, 'call_type', c.call_type,
            'status', CASE WHEN c.is_failure THEN 'failure' ELSE 'success' END,
            'error_information', CASE WHEN c.is_failure THEN json_build_object(
                'error_code', c.metadata -> 'error_information' -> 'error_code',
                'error_class', c.metadata -> 'error_information' -> 'error_class',
                'error_message', c.metadata -> 'error_information' -> 'error_message') END,
            'stream', c."completionStartTime" < c."endTime",
            'startTime', \(literal("(c.began / 1000.0)::float8")), 'endTime', \(moment("c.\"endTime\"")),
            'completionStartTime', \(moment("c.\"completionStartTime\"")),
            'response_cost', \(literal("c.spend")), 'prompt_tokens', c.prompt_tokens, 'completion_tokens', c.completion_tokens,
            'cache_hit', c.cache_hit = 'True', 'model', c.model, 'model_group', c.model_group,
            'custom_llm_provider', c.custom_llm_provider, 'end_user', c.end_user, 'request_tags', c.request_tags,
            'metadata', json_build_object(
                'user_api_key_hash', c.api_key, 'user_api_key_user_id', nullif(c."user", ''),
                'usage_object', c.metadata -> 'usage_object')
        )
        """

    /// The JSON number that Python writes for a `float8`: its digits are part of what an event is known by.
    private static func literal(_ number: String) -> Query {
        Query(
            unsafeSQL: """
                (CASE WHEN \(number) = ANY('{NaN,Infinity,-Infinity}') THEN 'null'
                 WHEN \(number) = trunc(\(number)) AND abs(\(number)) < 1e15 THEN \(number)::text || '.0'
                 ELSE \(number)::text END)::json
                """)
    }

    /// A moment, as far from the event's start as it is from LiteLLM's.
    private static func moment(_ column: String) -> Query {
        Query(unsafeSQL: "c.began / 1000.0 + extract(epoch FROM \(column) - c.\"startTime\")")
    }
}

extension HourOfKey {
    /// Rows of hour, key, calls, tokens and cost.
    static func sums(_ rows: [Row]) throws -> [Place: Sum] {
        let sums = try rows.map { row in
            let (hour, key, calls, tokens, cost) = try row.decode(
                Int64.self, String.self, Int64.self, Int64.self, Money.self)
            return (Place(hour: hour, keyHash: key), Sum(calls: calls, tokens: tokens, cost: cost))
        }
        return Dictionary(uniqueKeysWithValues: sums)
    }
}

/// What of LiteLLM's calls, served or failed with tokens or a cost, is here.
package enum ServedCalls {
    /// Where a call is found.
    package enum Place: String, Sendable {
        /// It is a row.
        case here
        /// It is in quarantine, was discarded there, or was withdrawn.
        case aside
        case missing
    }

    /// What we count for each hour and key that begins in `range`: events as LiteLLM sends them, of calls that a
    /// provider worked for.
    ///
    /// - Throws: ``PostgresError``.
    package static func sums(
        _ range: Range<Timestamp>, _ connection: Connection
    ) throws -> [HourOfKey.Place: HourOfKey.Sum] {
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

    /// Where each call is found, in their order: one that our module named by its key, another one by its key hash, its
    /// tokens and its start, which LiteLLM's database has rounded. Of those that begin in one millisecond with equal
    /// facts as many are here as there are rows. A failure has no name, as each attempt is an event: it is one of its
    /// key with its tokens that began before it failed.
    ///
    /// - Throws: ``PostgresError``.
    package static func find(
        _ calls: [(item: IngestItem, call: SpendLogs.Call)], _ connection: Connection
    ) throws -> [Place] {
        let items = calls.map(\.item)
        let keys = items.map(\.key)
        let rows = try connection.query(
            """
            WITH call AS (
                SELECT *, row_number() OVER (
                           PARTITION BY key_hash, low, input_tokens, output_tokens, is_failure ORDER BY n) AS nth
                FROM unnest(
                    \(keys.map(\.description))::uuid[], \(calls.map(\.call.isIdempotent))::boolean[],
                    \(calls.map(\.call.place.keyHash))::text[], \(keys.map { $0.around(-1) })::uuid[],
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
        return try rows.map { Place(rawValue: try $0.decode(0)) ?? .missing }
    }
}

extension EventKey {
    /// The lowest key of a start so many milliseconds later; or so many after `moment`, where that is later.
    fileprivate func around(_ milliseconds: Int64, orAt moment: Timestamp? = nil) -> String {
        let start = max(Int64(high >> 16), moment?.milliseconds ?? 0) + milliseconds
        return EventKey.first(at: Timestamp(microseconds: start * 1000)).description
    }
}
