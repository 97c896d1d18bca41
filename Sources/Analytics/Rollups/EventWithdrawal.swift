package import Domain
package import Postgres
import Storage

/// Takes one event back: its log, its facts, and what they are in rollups and counters, as if it had never been stored.
///
/// A row of `metering.withdrawn_events` stays, by which another delivery of the event is a duplicate.
package enum EventWithdrawal {
    /// By what the operator knows the event.
    package enum Subject: Sendable, Hashable {
        case log(Int64)
        case key(EventKey)
    }

    /// An event that was withdrawn.
    package struct Withdrawn: Sendable, Hashable {
        package let key: EventKey
        package let logID: Int64
        package let userID: Int64
        package let occurredAt: Timestamp
        package let model: String
        package let status: String
        package let inputTokens: Int64
        package let outputTokens: Int64
        /// In USD; `nil` if the price is unknown.
        package let cost: String?
        package let flags: [String]
        /// Whether its row of `api_logs` was still there.
        package fileprivate(set) var hadLog = false
        /// Whether it was in the rollups already.
        package fileprivate(set) var wasRolledUp = false
    }

    /// Withdraws an event in the open transaction, and writes it down with the database role that did it.
    ///
    /// It holds the state, so no worker's step is under way and none begins before the transaction ends: what a worker
    /// has added is subtracted once, what it has not is never added. ``QuotaCounters`` wait too.
    ///
    /// - Throws: ``AppError`` `.notFound` where there is no such event, `.conflict` where it cannot be withdrawn,
    ///   `.unavailable` where a worker was at work all the time, or where ids began again and that is not noted yet;
    ///   ``Installation/Mismatch``; ``PostgresError``.
    package static func withdraw(
        _ subject: Subject, reason: String?, _ connection: Connection, now: Timestamp
    ) throws -> Withdrawn {
        try Installation.require(connection)
        let state = try hold(connection)
        do {
            try IDLine.require(connection)
        } catch let error as IDLine.BeganAgain {
            throw AppError(.unavailable, error.description)
        }
        try QuotaCounters.keepOut(connection)
        let found = try find(subject, connection)
        guard found.usage.quarter >= state.sealedBefore else { throw try refusal(ofSealed: found, connection) }
        var event = found.event
        event.wasRolledUp = found.usage.position <= state.eventWatermark
        let isExact = try !event.wasRolledUp || RollupWithdrawal.subtract(found.usage, state, connection)
        let isCounted = try isExact && subtractFromCounters(event, connection)
        try record(event, reason: reason, connection, now: now)
        event.hadLog = try delete(found, connection)
        if !isCounted { try makeAgain(found.usage, connection, now: now) }
        return event
    }

    /// What is to be withdrawn, and how it is counted.
    private struct Found {
        var event: Withdrawn
        var usage: RollupWithdrawal.Event
    }

    private static func hold(_ connection: Connection) throws -> RollupState {
        do {
            let state = try RollupState.hold(connection)
            // A transaction that holds the log's row would hold up the worker through this one.
            try connection.executeScript("SET LOCAL lock_timeout = '5s'; SET LOCAL work_mem = '64MB'")
            return state
        } catch let error as PostgresError where error.sqlState == "55P03" {
            throw AppError(.unavailable, "The aggregation worker was at work for 30 s. Try again.")
        }
    }

    private static func find(_ subject: Subject, _ connection: Connection) throws -> Found {
        let condition: Query =
            switch subject {
            case .log(let id): stands(atPositionOf: id)
            case .key(let key): "e.event_key = \(key.description)::uuid"
            }
        let rows = try connection.query(
            """
            SELECT e.event_key::text, \(IDLine.id(of: "e.api_log_id")), e.user_id, \(microseconds: "e.occurred_at"),
                   e.model_group, e.status,
                   e.input_tokens, e.output_tokens, trim_scale(e.cost)::text, coalesce(e.flags, '{}'),
                   metering.quarter_of(e.occurred_at), e.api_log_id
            FROM metering.events e WHERE \(condition) LIMIT 2
            """)
        guard rows.count < 2 else {
            throw AppError(.conflict, "Several events have this log id. Name the event by its key (--event-key).")
        }
        guard let row = rows.first, let key = EventKey(try row.decode(0, as: String.self)) else {
            throw try refusal(ofMissing: subject, connection)
        }
        let event = Withdrawn(
            key: key, logID: try row.decode(1), userID: try row.decode(2),
            occurredAt: Timestamp(microseconds: try row.decode(3)), model: try row.decode(4), status: try row.decode(5),
            inputTokens: try row.decode(6), outputTokens: try row.decode(7), cost: try row.decode(8),
            flags: try row.decode(9))
        let usage = RollupWithdrawal.Event(
            key: key.description, position: try row.decode(11), user: event.userID, quarter: try row.decode(10),
            isSelfReported: event.flags.contains(UsageEvent.Flag.selfReported.rawValue))
        return Found(event: event, usage: usage)
    }

    /// Whether event `e` has its row under the id; where no row has it, whether it ever had one, in any epoch.
    private static func stands(atPositionOf id: Int64) -> Query {
        """
        e.api_log_id IN (
            SELECT p.position
            FROM metering.id_epochs k
            LEFT JOIN metering.id_epochs n ON n.epoch = k.epoch + 1
            CROSS JOIN LATERAL (
                SELECT least(\(id)::bigint, 9223372036854775807 - k.shift) + k.shift AS position) p
            WHERE p.position >= k.first_position AND p.position < coalesce(n.first_position, 9223372036854775807)
              AND (p.position = metering.log_position(\(id)::bigint)
                   OR NOT EXISTS (SELECT FROM public.api_logs l WHERE l.id = \(id)::bigint)))
        """
    }

    /// Adds what takes the event out of its windows; `false`, and nothing is changed, where a window is saturated, or
    /// its cost is NaN.
    private static func subtractFromCounters(_ event: Withdrawn, _ connection: Connection) throws -> Bool {
        let saturated = try connection.query(
            """
            WITH event AS (
                SELECT e.user_id, (e.occurred_at AT TIME ZONE 'UTC')::date AS day FROM metering.events e
                WHERE e.event_key = \(event.key.description)::uuid
            ), time_window AS (
                SELECT e.user_id, w.* FROM event e,
                       LATERAL (VALUES ('daily', e.day, e.day + 1),
                                       ('monthly', date_trunc('month', e.day::timestamp)::date,
                                        (date_trunc('month', e.day::timestamp) + interval '1 month')::date)
                       ) AS w (period, start, stop)
            ), counted AS (
                SELECT w.period, q.tokens, metering.finite(q.cost) = q.cost AS is_finite FROM time_window w
                JOIN metering.quota_usage q
                    ON q.window_start = w.start AND q.period = w.period AND q.user_id = w.user_id
                UNION ALL
                SELECT w.period, d.tokens, true
                FROM metering.quota_deltas q, LATERAL unnest(q.user_ids, q.days, q.tokens) AS d (user_id, day, tokens),
                     time_window w
                WHERE d.user_id = w.user_id AND d.day >= w.start AND d.day < w.stop
            )
            SELECT EXISTS (SELECT FROM counted GROUP BY period
                           HAVING sum(tokens) >= 9223372036854775807 OR NOT bool_and(is_finite))
            """)[0].decode(0, as: Bool.self)
        guard !saturated else { return false }
        try connection.execute(
            """
            INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests, costs)
            SELECT ARRAY[e.user_id], ARRAY[d.day], ARRAY[-e.quota_tokens], ARRAY[-e.quota_requests::bigint],
                   ARRAY[CASE WHEN d.day >= b.since THEN -coalesce(e.cost, 0) ELSE 0 END]
            FROM metering.events e
            CROSS JOIN LATERAL (SELECT (e.occurred_at AT TIME ZONE 'UTC')::date AS day) d
            CROSS JOIN (\(ExpectedCounters.budgetedSince)) b
            WHERE e.event_key = \(event.key.description)::uuid AND e.quota_requests > 0
            """)
        return true
    }

    private static func record(
        _ event: Withdrawn, reason: String?, _ connection: Connection, now: Timestamp
    ) throws {
        try connection.execute(
            """
            WITH withdrawn AS (
                INSERT INTO metering.withdrawn_events (
                    event_key, api_log_id, user_id, input_tokens, output_tokens, billable_digest, key_hash,
                    withdrawn_at, withdrawn_by, reason, facts)
                SELECT e.event_key, e.api_log_id, e.user_id, e.input_tokens, e.output_tokens, e.billable_digest,
                       e.key_hash, \(now), session_user, \(reason as String?), to_jsonb(e)
                FROM metering.events e WHERE e.event_key = \(event.key.description)::uuid
            )
            INSERT INTO metering.audit_log (at, actor_id, address, action, subject, subject_id, before, after)
            SELECT \(now), 0, 'codexflow as ' || session_user, 'event.withdraw', 'event', e.event_key::text,
                   to_jsonb(e),
                   CASE WHEN \(reason as String?)::text IS NOT NULL
                        THEN jsonb_build_object('reason', \(reason as String?)::text) END
            FROM metering.events e WHERE e.event_key = \(event.key.description)::uuid
            """)
    }

    /// Deletes facts and log, and returns whether there was a log. One that another event has too is that event's, and
    /// so is none that was inserted under the id later: it differs in more than Laravel corrects.
    private static func delete(_ found: Found, _ connection: Connection) throws -> Bool {
        let (event, position) = (found.event, found.usage.position)
        let logs = try connection.query(
            """
            SELECT l.id FROM public.api_logs l JOIN metering.events e ON e.event_key = \(event.key.description)::uuid
            WHERE l.id = \(event.logID) AND metering.log_position(l.id) = \(position) AND l.user_id = e.user_id
              AND (l.created_at = date_trunc('second', e.occurred_at AT TIME ZONE 'UTC')
                   OR (l.model, l.input_tokens, l.output_tokens)
                      = (e.model_group, least(e.input_tokens, 2147483647), least(e.output_tokens, 2147483647)))
            """)
        try connection.execute("DELETE FROM metering.events WHERE event_key = \(event.key.description)::uuid")
        guard !logs.isEmpty else { return false }
        return try connection.execute(
            """
            DELETE FROM public.api_logs l WHERE l.id = \(event.logID) AND l.user_id = \(event.userID)
              AND NOT EXISTS (
                  SELECT FROM metering.events e WHERE e.api_log_id = \(position) AND e.user_id = \(event.userID))
            """) > 0
    }

    /// Makes the user's day again from what is left: subtraction from a saturated sum is not exact.
    private static func makeAgain(
        _ usage: RollupWithdrawal.Event, _ connection: Connection, now: Timestamp
    ) throws {
        let hasUser = try connection.query("SELECT EXISTS (SELECT FROM public.users WHERE id = \(usage.user))")[0]
            .decode(0, as: Bool.self)
        guard hasUser else {
            throw AppError(
                .conflict, "The user is deleted, and the sums of this day are saturated: they cannot be made again.")
        }
        try QuotaCounters.addAllDeltas(connection, now: now)
        _ = try RollupRebuild.repair(usage.range, connection)
    }

    private static func refusal(ofMissing subject: Subject, _ connection: Connection) throws -> AppError {
        let (condition, name): (Query, String) =
            switch subject {
            case .log(let id): ("\(IDLine.id(of: "w.api_log_id")) = \(id)::bigint", "log \(id)")
            case .key(let key): ("w.event_key = \(key.description)::uuid", "event \(key)")
            }
        let rows = try connection.query(
            """
            SELECT \(rfc3339: "w.withdrawn_at"), w.withdrawn_by
            FROM metering.withdrawn_events w WHERE \(condition) LIMIT 1
            """)
        if let (at, by) = try rows.first?.decode(String.self, String.self) {
            return AppError(.conflict, "The \(name) was withdrawn at \(at) by \(by).")
        }
        if case .log(let id) = subject,
            try connection.query("SELECT EXISTS (SELECT FROM public.api_logs WHERE id = \(id))")[0].decode(
                0, as: Bool.self)
        {
            return AppError(
                .conflict,
                """
                The log \(id) has no event: Laravel wrote it itself, or retention dropped its month. Only events can \
                be withdrawn.
                """)
        }
        return AppError(
            .notFound,
            "There is no \(name). Events older than METERING_RETENTION_DAYS are dropped and cannot be withdrawn.")
    }

    private static func refusal(ofSealed found: Found, _ connection: Connection) throws -> AppError {
        let before = try connection.query(
            "SELECT \(rfc3339: "sealed_before") FROM metering.rollup_watermark"
        )[0].decode(0, as: String.self)
        return AppError(
            .conflict,
            """
            The event is of \(found.event.occurredAt.rfc3339). Raw rows before \(before) are gone by retention, and \
            the sums of that time are sealed: nothing is withdrawn from them.
            """)
    }
}

/// Takes one event out of the rollups, which the transaction holds.
enum RollupWithdrawal {
    /// An event in the rollups.
    struct Event {
        /// Of `metering.events`, where its row still is.
        var key: String
        /// On the line of ids.
        var position: Int64
        var user: Int64
        var quarter: Int
        var isSelfReported: Bool

        var day: Int { quarter / QuarterHour.perDay }
        /// The user's day on which it counts.
        var range: RollupRange { RollupRange(from: day, to: day + 1, user: user) }
    }

    /// A rollup does not hold what is to be taken from it, is saturated or is NaN.
    private struct Inexact: Error {}

    /// Subtracts the event from every rollup that has it; `false`, and nothing is changed, where that would not be
    /// exact: then the day is to be made again.
    ///
    /// - Throws: ``PostgresError``.
    static func subtract(_ event: Event, _ state: RollupState, _ connection: Connection) throws -> Bool {
        do {
            try connection.savepoint { connection in
                try subtract(event, from: "metering.rollup_15m", bucket: "quarter", connection)
                guard event.quarter < state.dayBoundary else { return }
                try subtract(event, from: "metering.rollup_day", bucket: "day", connection)
                // Stale spans are made again from the days by the next pass.
                if !event.isSelfReported, state.hasSpans { try subtractSpans(event, state, connection) }
            }
            return true
        } catch is Inexact {
            return false
        }
    }

    private static func subtract(
        _ event: Event, from table: Query, bucket: Query, _ connection: Connection
    ) throws {
        let isIts: Query = "u.user_id = c.user_id AND u.\(bucket) = c.\(bucket) AND u.dimension = c.dimension"
        let (expected, changed) = try connection.query(
            """
            WITH \(cells(of: event)), changed AS (
                UPDATE \(table) u SET \(RollupMeasures.subtracted)
                FROM cell c WHERE \(isIts) AND \(RollupMeasures.covers)
                RETURNING u.user_id
            )
            SELECT (SELECT count(*) FROM cell), (SELECT count(*) FROM changed)
            """)[0].decode(Int.self, Int.self)
        guard expected == changed else { throw Inexact() }
        // What has no request is no cell: `verify` expects none.
        try connection.execute(
            "WITH \(cells(of: event)) DELETE FROM \(table) u USING cell c WHERE \(isIts) AND u.requests = 0")
    }

    /// CTE `cell` of what the event is in the rollups of its user and of all users, by quarter and day.
    private static func cells(of event: Event) -> Query {
        """
        fact AS MATERIALIZED (
            SELECT f.user_id, metering.quarter_of(f.occurred_at) AS quarter, d.dimension, f.is_self_reported,
                   \(RollupMeasures.ofFacts)
            FROM \(LogOrigin.events.facts(after: event.position - 1, through: event.position)) f
            \(RollupDimensions.join)
            WHERE f.event_key = \(event.key)::uuid
            GROUP BY 1, 2, 3, 4
        ), cell AS MATERIALIZED (
            SELECT o.user_id, f.quarter, metering.day_of(f.quarter) AS day, f.dimension, \(RollupMeasures.columns)
            FROM fact f CROSS JOIN LATERAL (VALUES (f.user_id), (0)) AS o (user_id)
            WHERE o.user_id <> 0 OR NOT f.is_self_reported
        )
        """
    }

    private static func subtractSpans(_ event: Event, _ state: RollupState, _ connection: Connection) throws {
        let firstOpen = RollupSpans.firstOpenDay(state.dayBoundary)
        let written = RollupSpans.lengths.filter { $0 == 1 || event.day / $0 * $0 + $0 <= firstOpen }
        let isIts: Query = """
            s.user_id = \(event.user)::bigint AND s.days = ANY(\(written)::integer[])
            AND s.first_day = \(RollupSpans.start("s.days", of: "('1970-01-01'::date + \(event.day)::integer)"))
            """
        let changed = try connection.execute(
            """
            WITH \(cells(of: event)), used AS (
                SELECT \(RollupSpans.ofCells) FROM cell c WHERE c.user_id <> 0
            )
            UPDATE metering.rollup_span s
            SET requests = s.requests - c.requests, tokens = s.tokens - c.tokens, cost = s.cost - c.cost
            FROM used c
            WHERE \(isIts) AND s.requests >= c.requests AND s.requests < 9223372036854775807
              AND s.tokens >= c.tokens AND s.tokens < 9223372036854775807
              AND metering.finite(s.cost) = s.cost
            """)
        guard changed == written.count else { throw Inexact() }
        try connection.execute("DELETE FROM metering.rollup_span s WHERE \(isIts) AND s.requests = 0")
    }
}
