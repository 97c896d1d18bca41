import Domain
import Postgres

/// Stores events, each together with its log and its share of the counters.
enum EventStore {
    /// The result of one statement. An event in none of the sets was stored before or was withdrawn.
    struct Outcome {
        /// The ids in `api_logs` of the new events.
        var logIDs: [EventKey: Int64] = [:]
        /// Users whose row another open transaction holds.
        var lockedUsers: Set<Int64> = []
        /// Users without a row.
        var missingUsers: Set<Int64> = []

        /// Adds the result of another statement.
        mutating func formUnion(_ other: Outcome) {
            logIDs.merge(other.logIDs) { first, _ in first }
            lockedUsers.formUnion(other.lockedUsers)
            missingUsers.formUnion(other.missingUsers)
        }
    }

    /// An event was withdrawn while the statement waited for its key. The transaction must be undone and run again.
    struct WithdrawnMeanwhile: Error {}

    /// Some events have no log: it is not in `api_logs` under the id that we recorded, or it belongs to another user. A
    /// trigger or a rule of the table removed or changed it. The statement must be undone.
    struct Unproven: Error {
        /// The keys of these events.
        let keys: Set<EventKey>
    }

    /// Inserts events, their logs and one delta of the counters in one statement, so that they commit or fail together.
    ///
    /// - Events of users whose row is missing or locked are left out. The statement never waits for a user's lock.
    /// - Ids come from the sequence inside this statement. It holds the table's ROW EXCLUSIVE lock since it was parsed.
    ///   The commit horizon relies on that (`docs/architecture.md`).
    /// - `ON CONFLICT` waits for another process that stores the same key. Both go in key order, so no deadlock is
    ///   possible.
    /// - An event is stored only when its log is there afterwards. Triggers and rules of `api_logs` can prevent that.
    ///   Deferred triggers run before the proof.
    ///
    /// `events` are sorted by key, each key once.
    ///
    /// - Throws: ``PostgresError``; ``Unproven``; ``WithdrawnMeanwhile``; ``IDLine/BeganAgain``;
    ///   ``Installation/Mismatch`` when Laravel's tables are not those of this installation.
    static func insert(
        _ events: [AttributedEvent], after memory: IDLine.Memory, now: Timestamp, on connection: Connection
    ) throws -> Outcome {
        var outcome = Outcome()
        guard !events.isEmpty else { return outcome }
        let rows = try connection.query(statement(EventColumns(events), after: memory.position, now: now))
        var isCertain = true
        for row in rows {
            let (result, key, number) = try row.decode(String.self, String?.self, Int64?.self)
            switch (result, key.flatMap { EventKey($0) }, number) {
            case ("stored", let key?, let logID?): outcome.logIDs[key] = logID
            case ("locked", _, let user?): outcome.lockedUsers.insert(user)
            case ("missing", _, let user?): outcome.missingUsers.insert(user)
            case ("uncertain", _, _): isCertain = false
            case ("restarted", _, _): throw IDLine.BeganAgain()
            case ("drawn", _, let position?): memory.note(position)
            case ("withdrawn", _, _): throw WithdrawnMeanwhile()
            default: throw Installation.Mismatch()
            }
        }
        guard !isCertain else { return outcome }
        let unproven = try missing(outcome.logIDs, of: events, connection)
        guard unproven.isEmpty else { throw Unproven(keys: unproven) }
        return outcome
    }

    /// The events that have no log after all triggers have run, deferred ones included.
    ///
    /// A trigger may change the columns of a log. It must not give a log the id of another log of the statement. A log
    /// that differs from what was written for its event, and equals what was written for another event, proves neither.
    private static func missing(
        _ logIDs: [EventKey: Int64], of events: [AttributedEvent], _ connection: Connection
    ) throws -> Set<EventKey> {
        let stored = events.compactMap { event in logIDs[event.event.key].map { (event, $0) } }
        let column = EventColumns(stored.map(\.0))
        try connection.executeScript("SET CONSTRAINTS ALL IMMEDIATE")
        let rows = try connection.query(
            """
            WITH written AS MATERIALIZED (
                SELECT w.event_key, w.id, w.user_id,
                       ROW(w.model, \(Query.laravelCount(of: "w.input_tokens"))::numeric,
                           \(Query.laravelCount(of: "w.output_tokens"))::numeric, coalesce(w.ledger_cost, 0),
                           \(Query.laravelCount(of: "coalesce(w.duration_ms, 0)"))::numeric, w.status,
                           date_trunc('second', 'epoch'::timestamp + w.occurred_us * interval '1 microsecond')) AS facts
                FROM unnest(
                    \(column.keys)::uuid[], \(stored.map(\.1))::bigint[], \(column.userIDs)::bigint[],
                    \(column.modelGroups)::text[], \(column.inputTokens)::bigint[], \(column.outputTokens)::bigint[],
                    \(column.laravelCosts)::numeric[], \(column.durations)::bigint[], \(column.statuses)::text[],
                    \(column.occurredAt)::bigint[]
                ) AS w (event_key, id, user_id, model, input_tokens, output_tokens, ledger_cost, duration_ms, status,
                        occurred_us)
            )
            SELECT w.event_key::text
            FROM written w LEFT JOIN LATERAL (
                SELECT ROW(l.model::text, l.input_tokens::numeric, l.output_tokens::numeric,
                           round(l.total_cost::numeric, 6), l.response_time_ms::numeric, l.status::text,
                           l.created_at::timestamp) AS facts
                FROM public.api_logs l WHERE l.id = w.id AND l.user_id = w.user_id
            ) l ON true
            WHERE l.facts IS NULL
               OR (l.facts IS DISTINCT FROM w.facts AND l.facts IN (SELECT o.facts FROM written o))
            """)
        return Set(try rows.compactMap { EventKey(try $0.decode(0, as: String.self)) })
    }

    /// The statement; `last` is the highest position that this process drew before.
    private static func statement(
        _ column: EventColumns<AttributedEvent>, after last: Int64, now: Timestamp
    ) -> Query {
        """
        WITH event AS MATERIALIZED (
            SELECT e.*, 'epoch'::timestamptz + e.occurred_us * interval '1 microsecond' AS occurred_at
            FROM unnest(
                \(column.userIDs)::bigint[], \(column.flags)::text[], \(column.keyHashes)::bytea[], \(column.arrays)
            ) AS e (user_id, flags, key_hash, \(EventColumns<AttributedEvent>.names))
        ), line AS MATERIALIZED (
            SELECT metering.enter_id_line() AS shift
        ), locked_user AS MATERIALIZED (
            SELECT u.id, \(UserColumn.plan) AS plan
            FROM public.users u
            WHERE u.id = ANY(\(column.distinctUserIDs)::bigint[])
              AND (SELECT is_intact FROM metering.installation_state)
              AND (SELECT shift FROM line) IS NOT NULL
            ORDER BY u.id
            FOR KEY SHARE OF u SKIP LOCKED
        ), fact AS (
            INSERT INTO metering.events (\(EventRow.columns))
            SELECT \(EventRow.values(plan: "p.plan"))
            FROM event e JOIN locked_user p ON p.id = e.user_id
            WHERE NOT EXISTS (SELECT FROM metering.withdrawn_events w WHERE w.event_key = e.event_key)
            ORDER BY e.event_key
            ON CONFLICT (event_key) DO NOTHING
            RETURNING event_key, user_id, api_log_id, api_log_id - (SELECT shift FROM line) AS id
        ), log AS (
            INSERT INTO public.api_logs (
                id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status, error_message,
                created_at, updated_at)
            SELECT f.id, f.user_id, e.model_group, \(Query.laravelCount(of: "e.input_tokens")),
                   \(Query.laravelCount(of: "e.output_tokens")), coalesce(e.ledger_cost, 0),
                   \(Query.laravelCount(of: "coalesce(e.duration_ms, 0)")), e.status, e.error_message,
                   date_trunc('second', e.occurred_at AT TIME ZONE 'UTC'),
                   date_trunc('second', \(now) AT TIME ZONE 'UTC')
            FROM fact f JOIN event e USING (event_key)
            RETURNING id, user_id
        ), delta AS (
            \(EventRow.delta(from: "fact f JOIN event e USING (event_key)"))
        ), healed AS (
            UPDATE metering.quarantine q
            SET resolved_at = \(now), resolution = 'stored', api_log_id = f.id
            FROM fact f
            WHERE q.id = f.event_key AND (q.resolved_at IS NULL OR q.resolution = 'discarded')
        )
        SELECT 'stored', f.event_key::text, f.id FROM fact f
        UNION ALL
        -- EXCEPT, because the planner would compare each row with each other one.
        SELECT 'uncertain', NULL, NULL
        WHERE EXISTS (SELECT f.id, f.user_id FROM fact f EXCEPT SELECT l.id, l.user_id FROM log l)
           OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'public.api_logs'::regclass AND NOT t.tgisinternal)
           OR (SELECT c.relhasrules FROM pg_class c WHERE c.oid = 'public.api_logs'::regclass)
        UNION ALL
        SELECT CASE WHEN EXISTS (SELECT FROM public.users u WHERE u.id = w.id) THEN 'locked' ELSE 'missing' END,
               NULL, w.id
        FROM unnest(\(column.distinctUserIDs)::bigint[]) AS w (id)
        WHERE NOT EXISTS (SELECT FROM locked_user p WHERE p.id = w.id)
        UNION ALL
        SELECT 'withdrawn', w.event_key::text, NULL
        FROM metering.withdrawn(ARRAY(SELECT f.event_key FROM fact f)) AS w (event_key)
        UNION ALL
        SELECT 'restarted', NULL, NULL
        FROM (SELECT min(f.api_log_id) AS first FROM fact f) d
        WHERE \(EventRow.idsBeganAgain(from: "d.first", after: last))
        UNION ALL
        SELECT 'drawn', NULL, max(f.api_log_id) FROM fact f HAVING count(*) > 0
        UNION ALL
        SELECT 'foreign', NULL, NULL
        WHERE (SELECT is_intact FROM metering.installation_state) IS NOT TRUE
        """
    }
}

/// What every ingest statement writes of an event `e`.
enum EventRow {
    /// The columns of `metering.events`.
    static let columns: Query = """
        event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
        duration_ms, first_token_ms, billable_digest, quota_tokens, quota_requests, is_stream, is_cache_hit, cost,
        ledger_cost, shape, status, plan, provider, model_group, model, call_type, error_code, end_user, tags, flags,
        key_hash
        """

    /// The values of ``columns``. The id is drawn here. `line` has the shift of the present epoch.
    static func values(plan: Query) -> Query {
        """
        e.event_key, (SELECT shift FROM line) + nextval('public.api_logs_id_seq'), e.user_id, e.occurred_at,
        e.input_tokens, e.output_tokens, e.cached_tokens, e.reasoning_tokens, e.duration_ms, e.first_token_ms,
        e.billable_digest, e.quota_tokens, e.quota_requests, e.is_stream, e.is_cache_hit,
        CASE WHEN e.zero_is_unpriced AND e.model_group NOT IN (SELECT f.model FROM metering.free_models f)
             THEN NULL ELSE coalesce(e.cost, 0) END,
        nullif(e.ledger_cost, \(unsafeSQL: Query.laravelCost(of: "e.cost"))),
        e.shape, e.status, \(plan), e.provider, e.model_group, e.deployment, e.call_type, e.error_code, e.end_user,
        string_to_array(e.tags, E'\\x1f'), string_to_array(e.flags, ','), e.key_hash
        """
    }

    /// Inserts what the new events of `source`, with the alias `e`, add to the counters.
    static func delta(from source: Query) -> Query {
        """
        INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests, costs)
        SELECT array_agg(d.user_id), array_agg(d.day), array_agg(d.tokens), array_agg(d.requests), array_agg(d.cost)
        FROM (
            SELECT e.user_id, (e.occurred_at AT TIME ZONE 'UTC')::date AS day,
                   \(unsafeSQL: Query.saturated("sum(e.quota_tokens)")) AS tokens,
                   sum(e.quota_requests) AS requests, coalesce(sum(e.cost), 0) AS cost
            FROM \(source)
            WHERE e.quota_requests > 0
            GROUP BY 1, 2
        ) d
        HAVING count(*) > 0
        """
    }

    /// Whether the ids began again, so that `first` of the positions just drawn was known before. `last` is the highest
    /// position that this process drew before.
    ///
    /// The sequence is read after the ids were drawn. The watermark is read in the snapshot from before.
    static func idsBeganAgain(from first: Query, after last: Int64) -> Query {
        """
        EXISTS (
            SELECT FROM metering.rollup_watermark c, metering.id_epochs k
            WHERE k.epoch = (SELECT max(o.epoch) FROM metering.id_epochs o)
              AND (k.shift <> (SELECT shift FROM line)
                   OR k.sequence_file IS DISTINCT FROM pg_relation_filenode('public.api_logs_id_seq'::regclass)
                   OR \(first) <= greatest(c.commit_horizon, c.next_horizon, \(last)::bigint)))
        """
    }
}

/// Events that were stored before, found by their keys. Events that were withdrawn since are among them.
struct StoredEvents {
    /// The log and the billable facts of one stored event.
    struct Facts {
        let logID: Int64
        let userID: Int64
        let billableDigest: Int64
    }

    private(set) var facts: [EventKey: Facts] = [:]

    /// Whether none of the events was stored.
    var isEmpty: Bool { facts.isEmpty }

    /// Reads the events of `keys`.
    ///
    /// - Throws: ``PostgresError``.
    static func find(_ keys: [EventKey], on connection: Connection) throws -> StoredEvents {
        var events = StoredEvents()
        guard !keys.isEmpty else { return events }
        let rows = try connection.query(
            """
            SELECT e.event_key::text, \(IDLine.id(of: "e.api_log_id")), e.user_id, e.billable_digest
            FROM unnest(\(keys)::uuid[]) AS k (event_key)
            JOIN metering.events e USING (event_key)
            UNION ALL
            SELECT w.event_key::text, \(IDLine.id(of: "w.api_log_id")), w.user_id, w.billable_digest
            FROM metering.withdrawn_events w WHERE w.event_key = ANY(\(keys)::uuid[])
            """)
        for row in rows {
            let (key, logID, user, digest) = try row.decode(String.self, Int64.self, Int64.self, Int64.self)
            guard let key = EventKey(key) else { continue }
            events.facts[key] = Facts(logID: logID, userID: user, billableDigest: digest)
        }
        return events
    }

    /// The verdict of `event` if an event of the same key is stored; else `nil`.
    ///
    /// The key of an event without an idempotency key is random. The stored event is then the same one, from an attempt
    /// whose answer was lost. An idempotency key may meet another user's event of the same key.
    func verdict(of event: UsageEvent, attributedTo user: Int64?) -> Verdict? {
        guard let twin = facts[event.key] else { return nil }
        if !event.isIdempotent { return .stored(logID: twin.logID) }
        let isOthers = event.key.isIdempotencyKey && user != nil && user != twin.userID
        return twin.billableDigest == event.billableDigest && !isOthers
            ? .duplicate(logID: twin.logID) : .conflict(logID: twin.logID)
    }
}
