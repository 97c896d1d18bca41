package import Domain
package import Postgres

/// What of LiteLLM's served calls is here.
package enum ServedCalls {
    /// Where a call is found.
    package enum Place: String, Sendable {
        /// It is a row.
        case here
        /// It is in quarantine, or was discarded there.
        case aside
        case missing
    }

    /// What we count for each hour and key that begins in `range`: events as LiteLLM sends them, of calls it served.
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
              AND e.shape = 'litellm' AND e.status = 'success' AND e.key_hash IS NOT NULL
            GROUP BY 1, 2
            """)
        return try HourOfKey.sums(rows)
    }

    /// Where each call is found, in their order: one that our module named by its key, another one by its key hash, its tokens
    /// and its start, which LiteLLM's database has rounded. Of those that begin in one millisecond with equal facts as many
    /// are here as there are rows.
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
                SELECT *, row_number() OVER (PARTITION BY key_hash, low, input_tokens, output_tokens ORDER BY n) AS nth
                FROM unnest(
                    \(keys.map(\.description))::uuid[], \(calls.map(\.call.isNamed))::boolean[],
                    \(calls.map(\.call.place.keyHash))::text[], \(keys.map { $0.around(-1) })::uuid[],
                    \(keys.map { $0.around(2) })::uuid[], \(items.map { $0.event?.inputTokens ?? 0 })::bigint[],
                    \(items.map { $0.event?.outputTokens ?? 0 })::bigint[]
                ) WITH ORDINALITY AS c (event_key, is_named, key_hash, low, high, input_tokens, output_tokens, n)
            )
            SELECT CASE
                WHEN EXISTS (SELECT FROM metering.events e WHERE e.event_key = c.event_key) THEN 'here'
                WHEN EXISTS (SELECT FROM metering.quarantine q WHERE q.id = c.event_key) THEN 'aside'
                WHEN NOT c.is_named AND c.nth <= (
                    SELECT count(*) FROM metering.events e
                    WHERE e.event_key >= c.low AND e.event_key < c.high AND e.key_hash = decode(c.key_hash, 'hex')
                      AND e.input_tokens = c.input_tokens AND e.output_tokens = c.output_tokens
                ) THEN 'here'
                ELSE 'missing' END
            FROM call c ORDER BY c.n
            """)
        return try rows.map { Place(rawValue: try $0.decode(0)) ?? .missing }
    }
}

extension EventKey {
    /// The lowest key of a start so many milliseconds later.
    fileprivate func around(_ milliseconds: Int64) -> String {
        let start = Int64(high >> 16) + milliseconds
        return EventKey.first(at: Timestamp(microseconds: start * 1000)).description
    }
}
