import Domain
import Postgres

/// An event whose user one look-up decides, as ``IdentityResolution`` would: the user who holds its key now, or the
/// user with the id that it states.
final class DirectEvent: EventHolder {
    let event: UsageEvent
    /// The hash of the stated key.
    let keyHash: KeyHash?
    /// The id that must be the holder's; without a key, the id that decides.
    let statedID: Int64?
    /// The stated key and the id that it is if nobody holds it. A documented event's numeric `user_id` can be both.
    let alternative: (key: PresentedKey, id: Int64)?

    /// `nil` if `item` needs more than one look-up, or must be stored together with others.
    init?(_ item: IngestItem) {
        guard case .success(let event) = item.result, item.mayWait, !item.isReplay else { return nil }
        let claim = event.identity
        let numbers = [claim.laravelUserID, claim.userID].compactMap(\.self)
        let stated = claim.isKeyOptional ? claim.laravelUserID : numbers.first
        guard stated == nil || claim.isKeyOptional || numbers.allSatisfy({ $0 == stated }) else { return nil }
        guard stated != nil || !claim.keyHashes.isEmpty else { return nil }
        self.event = event
        keyHash = claim.keyHashes.first
        statedID = stated
        alternative =
            if claim.isKeyOptional, claim.keyHashes.count == 1, let key = claim.presentedKey, let id = numbers.first,
                numbers.allSatisfy({ $0 == id })
            { (key, id) } else { nil }
    }
}

/// Stores events in one statement that is its own transaction: attribution, facts, logs and the delta of the counters.
///
/// It stores only what is plain: a known user whose row nobody holds, a key that is neither stored, withdrawn nor in
/// quarantine, and an `api_logs` without triggers and rules. ``EventWriter`` stores the other events in a
/// transaction of several statements. When the answer is lost, these find by its key what was stored.
enum DirectInsert {
    /// The SQLSTATE by which `metering.require_final` reports that the ids of `api_logs` began again.
    static let idsBeganAgain = "CF002"

    /// Inserts what is plain of `events`, and returns the ids of their logs. `events` are sorted by key, each key once.
    ///
    /// The guarantees are those of ``EventStore/insert(_:after:now:on:)``. What an event's own key or user prevents is
    /// left out. If an event was withdrawn meanwhile, or ids began again, PostgreSQL undoes the whole statement.
    ///
    /// - Throws: ``PostgresError``.
    static func insert(
        _ events: [DirectEvent], after memory: IDLine.Memory, now: Timestamp, on connection: Connection
    ) throws -> [EventKey: Int64] {
        let rows = try connection.query(statement(events, after: memory.position, now: now))
        let (keys, ids, last) = try rows[0].decode([EventKey]?.self, [Int64]?.self, Int64?.self)
        if let last { memory.note(last) }
        return Dictionary(uniqueKeysWithValues: zip(keys ?? [], ids ?? []))
    }

    private static func statement(_ events: [DirectEvent], after last: Int64, now: Timestamp) -> Query {
        let column = EventColumns(events)
        return """
            WITH line AS MATERIALIZED (
                SELECT metering.enter_id_line() AS shift
            ), fact AS (
                INSERT INTO metering.events (\(EventRow.columns))
                SELECT \(EventRow.values(plan: "e.plan"))
                FROM (\(attributed(column))) e
                WHERE NOT EXISTS (SELECT FROM metering.withdrawn_events w WHERE w.event_key = e.event_key)
                  AND NOT EXISTS (SELECT FROM metering.quarantine q WHERE q.id = e.event_key)
                ORDER BY e.event_key
                ON CONFLICT (event_key) DO NOTHING
                RETURNING api_log_id, api_log_id - (SELECT shift FROM line) AS id, event_key, user_id, occurred_at,
                          model_group, input_tokens, output_tokens, duration_ms, status, cost, ledger_cost,
                          quota_tokens, quota_requests
            ), log AS (
                INSERT INTO public.api_logs (
                    id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                    error_message, created_at, updated_at)
                SELECT f.id, f.user_id, f.model_group, \(Query.laravelCount(of: "f.input_tokens")),
                       \(Query.laravelCount(of: "f.output_tokens")),
                       coalesce(f.ledger_cost, \(unsafeSQL: Query.laravelCost(of: "coalesce(f.cost, 0)"))),
                       \(Query.laravelCount(of: "coalesce(f.duration_ms, 0)")), f.status,
                       \(column.errorMessage(of: "f")),
                       date_trunc('second', f.occurred_at AT TIME ZONE 'UTC'),
                       date_trunc('second', \(now) AT TIME ZONE 'UTC')
                FROM fact f
            ), delta AS (
                \(EventRow.delta(from: "fact e"))
            )
            SELECT array_agg(f.event_key), array_agg(f.id), max(f.api_log_id),
                   metering.require_final(
                       array_agg(f.event_key), \(EventRow.idsBeganAgain(from: "min(f.api_log_id)", after: last)))
            FROM fact f
            """
    }

    /// The events whose user is known and not locked, with the user's plan. None if the tables are not those of this
    /// installation, or if `api_logs` could change a log.
    private static func attributed(_ column: EventColumns<DirectEvent>) -> Query {
        let hasAlternatives = column.events.contains { $0.alternative != nil }
        let alternatives: Query =
            hasAlternatives ? "\(column.alternativeKeys)::text[], \(column.alternativeIDs)::bigint[]," : ""
        return """
            SELECT e.*, 'epoch'::timestamptz + e.occurred_us * interval '1 microsecond' AS occurred_at,
                   u.id AS user_id, u.plan, CASE WHEN k.user_id IS NOT NULL THEN e.stated_hash END AS key_hash
            FROM unnest(
                \(column.keyHashes)::bytea[], \(column.statedIDs)::bigint[], \(column.flags)::text[],
                \(alternatives) \(column.arrays), \(unsafeSQL: padding)
            ) AS e (
                stated_hash, stated_id, flags, \(unsafeSQL: hasAlternatives ? "other_key, other_id," : "")
                \(EventColumns<DirectEvent>.names), padding)
            LEFT JOIN metering.api_keys k ON k.key_hash = e.stated_hash AND k.valid_to IS NULL
            -- LIMIT 1 keeps the planner at one index look-up an event, however few users there are.
            CROSS JOIN LATERAL (
                SELECT u.id, \(UserColumn.plan) AS plan
                FROM public.users u
                WHERE u.id = CASE
                          WHEN k.user_id IS NOT NULL THEN k.user_id
                          WHEN e.stated_hash IS NULL THEN e.stated_id
                          \(unsafeSQL: hasAlternatives ? alternativeID : "") END
                  AND (k.user_id IS NULL
                       OR (k.valid_from <= 'epoch'::timestamptz + e.occurred_us * interval '1 microsecond'
                           AND coalesce(e.stated_id, k.user_id) = k.user_id
                           AND sha256(convert_to(u.api_key, 'UTF8')) = k.key_hash))
                LIMIT 1
                FOR KEY SHARE OF u SKIP LOCKED
            ) u
            WHERE e.event_key IS NOT NULL
              AND (SELECT shift FROM line) IS NOT NULL
              AND (SELECT is_intact FROM metering.installation_state)
              AND (SELECT c.relkind = 'r' AND NOT c.relhasrules AND NOT EXISTS (
                              SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
                   FROM pg_class c WHERE c.oid = 'public.api_logs'::regclass)
            """
    }

    /// Ten rows, as many as PostgreSQL expects of arrays that it does not know. For a batch of fewer events it would
    /// otherwise find the generic plan too expensive, and plan the statement each time, which takes longer than to
    /// execute it.
    private static let padding = "'{0,0,0,0,0,0,0,0,0,0}'::integer[]"

    /// The id of a numeric `user_id` that nobody holds, or held, as a key.
    private static let alternativeID = """
        WHEN e.other_key IS NOT NULL
             AND NOT EXISTS (SELECT FROM metering.api_keys o WHERE o.key_hash = e.stated_hash)
             AND NOT EXISTS (SELECT FROM public.users o WHERE o.api_key = e.other_key::varchar)
        THEN e.other_id
        """
}

extension EventColumns<DirectEvent> {
    fileprivate var keyHashes: [[UInt8]?] { events.map { $0.keyHash?.bytes } }
    fileprivate var statedIDs: [Int64?] { events.map(\.statedID) }
    fileprivate var alternativeKeys: [String?] { events.map(\.alternative?.key.text) }
    fileprivate var alternativeIDs: [Int64?] { events.map(\.alternative?.id) }
    fileprivate var flags: [String?] {
        let flags = events.map { UsageEvent.Flag.text(of: $0.event.flags) }
        return flags.contains { $0 != nil } ? flags : []
    }

    /// SQL of the error message of the event `row`. Few events have one, so it is looked for among these.
    fileprivate func errorMessage(of row: String) -> Query {
        let failed = events.filter { $0.event.errorMessage != nil }
        let (keys, texts) = (failed.map(\.event.key), failed.map(\.event.errorMessage))
        return "(\(texts)::text[])[array_position(\(keys)::uuid[], \(unsafeSQL: row).event_key)]"
    }
}
