import Dispatch
import Domain
import Logging
import Postgres
import Storage
import TestSupport
import Testing

/// The audit at the end of the fault drill finds every kind of loss and duplication.
@Suite(.timeLimit(.minutes(30))) struct IntegrityAuditTests {
    /// A damage, and the checks that must find it.
    struct Damage: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let sql: Query
        let findings: Set<String>
    }

    private static let counters = "counters that are not the sum of the events"
    private static let projection = "rows of rate_limits that are not the sums of the present periods"
    private static let orphanRow = "logs without an event"
    private static let quarantine = "unstorable events that are not in quarantine exactly once"

    static let damages = [
        Damage(testDescription: "none", sql: "SELECT", findings: []),
        Damage(
            testDescription: "lost event", sql: "DELETE FROM metering.events WHERE model_group = 'first'",
            findings: ["acknowledged events that are not stored", orphanRow, counters, projection]),
        Damage(
            testDescription: "lost log", sql: "DELETE FROM public.api_logs WHERE model = 'first'",
            findings: ["events without their log"]),
        Damage(
            testDescription: "double event",
            sql: """
                INSERT INTO metering.events
                SELECT r.* FROM metering.events e,
                    jsonb_populate_record(e, jsonb_build_object('event_key', gen_random_uuid())) r
                WHERE e.model_group = 'first'
                """,
            findings: ["events that are stored twice", counters, projection]),
        Damage(
            testDescription: "double log",
            sql: """
                INSERT INTO public.api_logs
                SELECT r.* FROM public.api_logs l, jsonb_populate_record(l, '{"id": 1000}') r WHERE l.model = 'first'
                """,
            findings: ["events with more than one log", orphanRow]),
        Damage(
            testDescription: "other tokens",
            sql: "UPDATE metering.events SET quota_tokens = quota_tokens + 1 WHERE model_group = 'first'",
            findings: ["events that differ from what was sent", counters, projection]),
        Damage(
            testDescription: "never sent", sql: "DELETE FROM drill.expected WHERE name = 'first'",
            findings: ["events that differ from what was sent"]),
        Damage(
            testDescription: "another log_id", sql: "UPDATE drill.expected SET log_id = 1000 WHERE name = 'first'",
            findings: ["events under another log_id than the answer's"]),
        Damage(testDescription: "lost entry", sql: "DELETE FROM metering.quarantine", findings: [quarantine]),
        Damage(
            testDescription: "resolved entry",
            sql: "UPDATE metering.quarantine SET resolved_at = now(), resolution = 'discarded'",
            findings: [quarantine]),
        Damage(
            testDescription: "entry that should be a log",
            sql: "UPDATE drill.expected SET reason = NULL, log_id = 1 WHERE name = 'absurd'",
            findings: ["acknowledged events that are not stored", "entries in quarantine that should be logs"]),
        Damage(
            testDescription: "counted twice",
            sql: """
                INSERT INTO metering.quota_deltas (user_ids, days, tokens, requests)
                VALUES ('{1}', '{today}', '{9}', '{1}')
                """,
            findings: [counters]),
        Damage(
            testDescription: "log of another call under the same id",
            sql: """
                UPDATE public.api_logs SET created_at = created_at - interval '1 hour', input_tokens = 7
                WHERE model = 'first'
                """,
            findings: ["events without their log", orphanRow]),
        Damage(
            testDescription: "Laravel's reset",
            sql: "UPDATE public.rate_limits SET used_tokens = 0 WHERE period = 'monthly'", findings: [projection]),
    ]

    @Test(arguments: damages)
    func theDamageIsFound(_ damage: Damage) async throws {
        try await withTestDatabase { database in
            let audit = IntegrityAudit(pool: database.pool)
            try await audit.load(try await sent(to: database))
            try await database.pool.withConnection { _ = try $0.execute(damage.sql) }
            var findings: Set<String> = []
            for check in IntegrityCheck.stored + [.projection] {
                if try await audit.offenders(of: check, within: .zero).count > 0 { findings.insert(check.name) }
            }
            #expect(findings == damage.findings)
        }
    }

    @Test func idsThatBeganAgainAreNoDamage() async throws {
        try await withTestDatabase { database in
            try await database.execute(
                """
                WITH bob AS (
                    INSERT INTO public.users (name, email, password) VALUES ('Bob', 'bob@example.com', 'x')
                    RETURNING id
                )
                INSERT INTO public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms)
                SELECT id, 'gpt-4', 1, 1, 0, 1 FROM bob, generate_series(1, 9)
                """)
            // As `codexflow migrate` finds them.
            try await database.execute("UPDATE metering.installation SET counted_log_id = 9")
            let service = database.pool(as: .webhook)
            try await database.execute("TRUNCATE public.api_logs RESTART IDENTITY")
            #expect(try await service.withConnection { try IDLine.look($0) })
            let audit = IntegrityAudit(pool: database.pool)
            try await audit.load(try await sent(to: database))
            for check in IntegrityCheck.stored {
                #expect(try await audit.offenders(of: check, within: .zero).count == 0, "\(check.name)")
            }
        }
    }

    @Test func openSessionsAreFound() async throws {
        try await withTestDatabase { database in
            let audit = IntegrityAudit(pool: database.pool)
            var configuration = database.configuration.role(.webhook)
            configuration.applicationName = "webhook-api"
            let service = ConnectionPool(configuration, logger: Logger(label: "service"))
            let (begun, beginning) = AsyncStream<Void>.makeStream()
            let release = DispatchSemaphore(value: 0)
            async let transaction: Void = service.transaction { connection in
                try connection.execute("SELECT 1")
                beginning.finish()
                release.wait()
            }
            for await _ in begun {}
            #expect(try await audit.offenders(of: .openTransactions, within: .zero).count == 1)
            release.signal()
            try await transaction
            #expect(try await audit.offenders(of: .openTransactions).count == 0)
            #expect(try await audit.offenders(of: .sessions, within: .zero).count == 1)
            await service.close()
            #expect(try await audit.offenders(of: .sessions).count == 0)
        }
    }

    /// Two stored events and one in quarantine, as their sender knows them.
    private func sent(to database: TestDatabase) async throws -> [LoadRecord.Entry] {
        let (now, pool) = (Timestamp.now, database.pool(as: .webhook))
        let user: Int64 = try await database.pool.withConnection { connection in
            try connection.query(
                "INSERT INTO public.users (name, email, password) VALUES ('Ada', 'ada@example.com', 'x') RETURNING id"
            )[0].decode(0)
        }
        var events = (0..<3).map { UsageEvent.sample($0, by: .user(user), at: now) }
        (events[0].modelGroup, events[1].modelGroup, events[2].modelGroup) = ("first", "second", "absurd")
        let absurd = Rejection(reason: .implausibleCost, detail: "", key: events[2].key, event: events[2])
        let verdicts = try await EventWriter(pool: pool, now: { now }).write(
            [IngestItem(.success(events[0])), IngestItem(.success(events[1])), IngestItem(.failure(absurd))],
            lockedUsers: .quarantine)
        try await pool.withConnection { connection in
            _ = try QuotaCounters.addDeltas(connection, now: now)
            try RateLimitProjection.project(connection, .all, now: now)
        }
        return zip(events, verdicts).map { event, verdict in
            guard case .stored(let logID) = verdict else {
                return LoadRecord.Entry(name: event.modelGroup, fate: .quarantined(.implausibleCost))
            }
            return LoadRecord.Entry(
                name: event.modelGroup, fate: .stored(userID: user, tokens: 150, requests: 1), logID: logID)
        }
    }
}
