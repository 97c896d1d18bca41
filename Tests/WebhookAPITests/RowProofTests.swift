import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// Nothing is answered as stored that has no row of its own, and ids that begin again stop nothing, over real
/// processes.
@Suite(.timeLimit(.minutes(30))) struct RowProofTests {
    private static let documented = #"{"user_id":"cf_ada","usage":{"prompt_tokens":3},"cost":0.1}"#
    private static let trigger = """
        CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RETURN CASE WHEN NEW.model = 'good' THEN NEW END; END $$;
        CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
        """

    private func with(_ body: (TestDatabase, RunningWebhook) async throws -> Void) async throws {
        try await withTestDatabase { database in
            try await database.execute(
                "INSERT INTO users (name, email, password, api_key) VALUES ('Ada', 'ada@example.com', 'x', 'cf_ada')")
            try await RunningWebhook.with(databaseURL: database.url(as: .webhook)) { webhook in
                try await body(database, webhook)
            }
        }
    }

    private func execute(_ script: String, _ database: TestDatabase) async throws {
        try await database.pool.withConnection { try $0.executeScript(script) }
    }

    @Test func anEventWhoseRowATriggerRemovesIsAnsweredAsKept() async throws {
        try await with { database, webhook in
            try await execute(Self.trigger, database)
            let single = try await webhook.post(Self.documented)
            #expect(single.status == 202)
            #expect(single.body == #"{"success":true,"quarantined":true,"reason":"laravel_unavailable"}"#)
            let batch = (0..<500).map { litellmEvent($0, key: "cf_ada", model: $0 == 99 ? "bad" : "good") }
            let answer = try await webhook.post("[\(batch.joined(separator: ","))]")
            #expect(answer.status == 200)
            #expect(answer.body.contains(#""stored":499,"duplicates":0,"conflicts":0,"quarantined":1"#))
            #expect(answer.body.contains(#"{"index":99,"status":"quarantined","reason":"laravel_unavailable"}"#))
            let counted: Query = """
                SELECT coalesce(sum(used_requests), 0) FROM rate_limits WHERE period = 'daily'
                """
            #expect(try await database.number(counted, becoming: 499, within: .seconds(10)) == 499)
            #expect(try await database.number("SELECT count(*) FROM api_logs") == 499)
            // They become rows by themselves once it is gone.
            try await execute("DROP FUNCTION public.f CASCADE", database)
            #expect(
                try await database.number(
                    "SELECT count(*) FROM api_logs l JOIN metering.events e ON e.api_log_id = l.id", becoming: 501,
                    within: .seconds(60)) == 501)
        }
    }

    @Test func idsThatBeginAgainStopNothing() async throws {
        try await with { database, webhook in
            let start = Date(timeIntervalSinceNow: -60)
            func post(_ ids: Range<Int>) async throws -> RunningWebhook.Answer {
                let events = ids.map { litellmEvent($0, key: "cf_ada", startedAt: start) }
                return try await webhook.post("[\(events.joined(separator: ","))]")
            }
            #expect(try await post(0..<5).body.contains(#""stored":5"#))
            try await execute("TRUNCATE public.api_logs RESTART IDENTITY", database)
            let answer = try await post(5..<8)
            #expect(answer.status == 200 && answer.body.contains(#""stored":3"#))
            // A delivery that comes again names the row that it was, and no other's.
            let again = try await post(0..<8)
            #expect(again.body.contains(#""duplicates":8"#))
            for event in 5..<8 {
                let id =
                    #""log_id":"#
                    + String(
                        try await database.number(
                            """
                            SELECT l.id FROM api_logs l
                            JOIN metering.events e ON e.api_log_id = metering.log_position(l.id)
                            ORDER BY e.event_key OFFSET \(event - 5) LIMIT 1
                            """))
                #expect(answer.body.contains(id) && again.body.contains(id))
            }
            #expect(try await webhook.becomesReady(200))
            // Without a delivery the service notices by itself.
            try await execute("TRUNCATE public.api_logs RESTART IDENTITY", database)
            let epochs: Query = "SELECT count(*) FROM metering.id_epochs"
            #expect(try await database.number(epochs, becoming: 3, within: .seconds(20)) == 3)
            let single = try await webhook.post(Self.documented)
            #expect(single.status == 201 && single.body == #"{"success":true,"log_id":1}"#, "\(single)")
            let ready = try await webhook.get("/health/ready")
            #expect(ready.status == 200 && ready.body.contains("The ids of api_logs began again at"), "\(ready)")
        }
    }
}
