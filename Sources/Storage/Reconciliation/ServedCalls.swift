package import Domain
package import Postgres

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
