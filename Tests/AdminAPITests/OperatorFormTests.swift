import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// The operator's pages of plans, requests, quarantine, health and the audit log.
@Suite(.timeLimit(.minutes(30))) struct OperatorFormTests {
    /// A person who is signed in to the pages.
    private struct Visitor: Sendable {
        private let bench: AdminBench
        private let token: String
        private let cookie: String

        init(_ bench: AdminBench, _ user: Int64) async throws {
            self.bench = bench
            token = try await bench.token(of: user)
            let hash = try await bench.text("SELECT password FROM users WHERE id = \(user)") ?? ""
            cookie = "codexflow_session=\(token)~\(PageCookie.Session(token: token, passwordHash: hash).seal)"
        }

        func get(_ page: String, _ language: String = "en") async throws -> AdminBench.Answer {
            try await bench.send(
                .get, "/dashboard/operator/\(page)", headers: [.cookie: cookie, .acceptLanguage: language])
        }

        func post(
            _ page: String, _ fields: KeyValuePairs<String, String>, _ language: String = "en"
        ) async throws -> AdminBench.Answer {
            let form = (fields.map { ($0.key, $0.value) } + [("_token", FormKey(secret: token).token())])
                .map { "\($0.0)=\($0.1.percentEncoded)" }.joined(separator: "&")
            return try await bench.send(
                .post, "/dashboard/operator/\(page)", form,
                headers: [
                    .cookie: cookie, .acceptLanguage: language, .contentType: "application/x-www-form-urlencoded",
                ])
        }
    }

    /// A database with the operator 1 and the customer 2.
    private func withOperator(_ body: @escaping @Sendable (AdminBench, Visitor) async throws -> Void) async throws {
        try await AdminBench.with { bench in
            try await bench.makeUser(1, isAdmin: true)
            try await bench.makeUser(2, name: "<i>Ada</i>")
            try await body(bench, try await Visitor(bench, 1))
        }
    }

    /// The actions of the audit log, in their order.
    private func actions(_ bench: AdminBench) async throws -> String {
        try await bench.text("SELECT string_agg(action, ' ' ORDER BY id) FROM metering.audit_log") ?? ""
    }

    private func expect(_ answer: AdminBench.Answer, leadsTo path: String) {
        #expect(answer.status == 303 && answer.headers[.location] == "/dashboard/operator/\(path)", "\(answer)")
    }

    private static let limits: KeyValuePairs = [
        "form": "plan", "plan": "pro", "daily_tokens": "9", "daily_requests": "8", "monthly_tokens": "7",
        "monthly_requests": "6",
    ]

    @Test func formsChangePlansAndModelsAndTheAuditLogRecordsIt() async throws {
        try await withOperator { bench, visitor in
            expect(try await visitor.post("plans", Self.limits), leadsTo: "plans?done=plan_limits")
            #expect(
                try await bench.text(
                    """
                    SELECT string_agg(concat_ws(' ', period, tokens, requests), ', ' ORDER BY period)
                    FROM metering.plan_limits WHERE plan = 'pro'
                    """) == "daily 9 8, monthly 7 6")
            expect(
                try await visitor.post(
                    "plans",
                    [
                        "form": "model", "name": "GPT", "model_id": "gpt-4", "cost_per_1k_tokens": "0.03",
                        "description": "", "availability": "on",
                    ]), leadsTo: "plans?done=model_added")
            let id = try await bench.number("SELECT id FROM models")
            let form = try await visitor.get("plans?model=\(id)")
            #expect(form.body.contains(#"name="id" value="\#(id)""#) && form.body.contains(#"value="0.030000""#))
            expect(
                try await visitor.post(
                    "plans",
                    [
                        "form": "model", "id": "\(id)", "name": "GPT", "model_id": "gpt-4",
                        "cost_per_1k_tokens": "0.06", "description": "old",
                    ]), leadsTo: "plans?done=model_changed")
            #expect(
                try await bench.text("SELECT concat_ws(' ', cost_per_1k_tokens, availability, description) FROM models")
                    == "0.060000 f old")
            for (isFree, done, left) in [("true", "free_added", 1), ("false", "free_removed", 0)] {
                expect(
                    try await visitor.post("plans", ["form": "free", "model": "local/x", "is_free": isFree]),
                    leadsTo: "plans?done=\(done)")
                #expect(try await bench.number("SELECT count(*) FROM metering.free_models") == left)
            }
            #expect(try await actions(bench) == "plan.limits model.create model.update model.free model.free")
            let log = try await visitor.get("audit?subject=model&from=2026-11-23&to=2026-11-23")
            #expect(log.body.contains("&quot;cost_per_1k_tokens&quot;: 0.060000"), "\(log)")
            #expect(!log.body.contains("<td class=\"words\">Limits set"))
            #expect((try await visitor.get("audit?to=2026-11-22")).body.contains("No change fits the filters."))
        }
    }

    @Test func aChangedPriceIsInTheDatabaseAndTheAuditLog() async throws {
        try await withOperator { bench, visitor in
            try await bench.execute(
                """
                INSERT INTO models (id, name, model_id, cost_per_1k_tokens, availability, created_at, updated_at)
                VALUES (5, 'House', 'house-1', 0.03, true, now(), now())
                """)
            expect(
                try await visitor.post(
                    "plans",
                    [
                        "form": "model", "id": "5", "name": "House", "model_id": "house-1",
                        "cost_per_1k_tokens": "0.045", "availability": "on",
                    ]), leadsTo: "plans?done=model_changed")
            #expect(try await bench.text("SELECT cost_per_1k_tokens::text FROM models WHERE id = 5") == "0.045000")
            #expect(
                try await bench.text(
                    """
                    SELECT concat_ws(' ', action, subject_id, actor_id, before ->> 'cost_per_1k_tokens',
                                     after ->> 'cost_per_1k_tokens')
                    FROM metering.audit_log
                    """) == "model.update 5 1 0.030000 0.045000")
            let log = try await visitor.get("audit?subject=model", "tr")
            #expect(log.body.contains("0.030000") && log.body.contains("0.045000") && log.body.contains("Güncellendi"))
            let table = try await visitor.get("plans", "tr")
            #expect(table.body.contains("data-value=\"0.045000\">$0,045<"), "\(table.body)")
        }
    }

    static let refusals: [(page: String, fields: KeyValuePairs<String, String>, kept: String, en: String, tr: String)] =
        [
            (
                "plans",
                [
                    "form": "plan", "plan": "pro", "daily_tokens": "-1", "daily_requests": "8", "monthly_tokens": "x",
                    "monthly_requests": "6",
                ], #"value="-1""#, "Enter a whole number of 0 or more.", "bir tam sayı girin."
            ),
            (
                "plans", ["form": "model", "name": "Kept", "model_id": "", "cost_per_1k_tokens": "1"], #"value="Kept""#,
                "Enter an id of 1 to 255 characters.", "arasında bir kimlik girin."
            ),
            (
                "plans", ["form": "model", "name": "Kept", "model_id": "m", "cost_per_1k_tokens": "10000"],
                #"value="10000""#, "Enter a price from 0 to below 10,000 USD", "10.000 USD arasında bir fiyat girin"
            ),
            (
                "plans", ["form": "free", "model": "", "is_free": "true"], #"id="free-model""#,
                "Enter a model of 1 to 255 characters.", "arasında bir model adı girin."
            ),
            ("requests", ["id": "1", "note": "Kept"], "Kept</textarea>", "Choose an answer", "Bir yanıt seçin"),
        ]

    @Test func aRefusedFormKeepsWhatWasTypedAndChangesNothing() async throws {
        try await withOperator { bench, visitor in
            try await bench.execute(
                "INSERT INTO metering.limit_requests (user_id, period, requested_at) VALUES (2, 'daily', now())")
            for refusal in Self.refusals {
                for (language, words) in [("en", refusal.en), ("tr", refusal.tr)] {
                    let answer = try await visitor.post(refusal.page, refusal.fields, language)
                    let text = answer.body.replacing("&#39;", with: "'")
                    #expect(answer.status == 422, "\(answer)")
                    #expect(text.contains(refusal.kept) && text.contains(words), "\(refusal.en) \(text.suffix(9000))")
                }
            }
            #expect(try await actions(bench).isEmpty)
            #expect((try await visitor.post("plans", ["form": "none"])).status == 400)
        }
    }

    @Test func aLimitRequestIsAnsweredOnceWithANote() async throws {
        try await withOperator { bench, visitor in
            let user = try await bench.token(of: 2)
            _ = try await bench.send(
                .post, "/api/rate-limits/request-increase", #"{"period":"daily","reason":"<b>more</b>"}"#, as: user)
            let page = try await visitor.get("requests")
            #expect(page.body.contains("&lt;b&gt;more&lt;/b&gt;") && page.body.contains("&lt;i&gt;Ada&lt;/i&gt;"))
            let id = try await bench.number("SELECT id FROM metering.limit_requests")
            let done = "requests?done=request_granted&user=2"
            let fields: KeyValuePairs = ["id": "\(id)", "note": "ok", "answer": "granted"]
            expect(try await visitor.post("requests", fields), leadsTo: done)
            #expect(
                try await bench.text("SELECT concat_ws(' ', answer, note, answered_by) FROM metering.limit_requests")
                    == "granted ok 1")
            #expect(try await actions(bench) == "limit_request.answer")
            #expect((try await visitor.get(done)).body.contains("/dashboard/operator/users/2#limits"))
            let again = try await visitor.post("requests", fields)
            #expect(again.status == 409 && again.body.contains("This request has an answer already."), "\(again)")
        }
    }

    @Test func quarantinedEventsChangeOnlyAfterADryRun() async throws {
        try await withOperator { bench, visitor in
            let now = bench.clock.now
            let events = (1...2).map { UsageEvent.sample($0, by: .hash(of: "cf_nobody\($0)"), at: now) }
            _ = try await EventWriter(pool: bench.database.pool(as: .webhook), now: { now })
                .write(events.map { IngestItem(.success($0)) }, lockedUsers: .quarantine)
            let open: Query = "SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL"
            #expect((try await visitor.get("quarantine?reason=unknown_key")).body.contains(">2 open</a>"))
            let early = try await visitor.post("quarantine", ["action": "replay", "reason": "unknown_key"])
            #expect(early.body.contains(#"data-name="stays" data-value="2""#) && !early.body.contains("confirmed"))

            try await bench.execute("UPDATE users SET api_key = 'cf_nobody1' WHERE id = 2")
            let trial = try await visitor.post("quarantine", ["action": "replay", "reason": "unknown_key"])
            #expect(trial.body.contains(#"data-name="stored" data-value="1""#), "\(trial)")
            #expect(try await bench.number(open) == 2)
            #expect(try await actions(bench).isEmpty)
            let ids = try #require(trial.body.firstMatch(of: /name="ids" value="([0-9a-f\- ]+)"/)?.output.1)
            expect(
                try await visitor.post("quarantine", ["action": "replay", "ids": String(ids), "confirmed": "yes"]),
                leadsTo: "quarantine?done=quarantine_replayed&changed=1&left=1")
            #expect(try await bench.number("SELECT count(*) FROM api_logs WHERE user_id = 2") == 1)

            let one = events[1].key.description
            let entry = try await visitor.get("quarantine/\(one)")
            #expect(
                entry.body.contains("&quot;input_tokens&quot;: 100") && entry.body.contains("Otherwise discard it."))
            let discard: KeyValuePairs = ["action": "discard", "ids": one]
            #expect((try await visitor.post("quarantine", discard)).body.contains(#"data-name="discarded""#))
            #expect(try await bench.number(open) == 1)
            expect(
                try await visitor.post("quarantine", ["action": "discard", "ids": one, "confirmed": "yes"]),
                leadsTo: "quarantine?done=quarantine_discarded&changed=1&left=0")
            #expect(try await bench.number(open) == 0)
            #expect(try await actions(bench) == "quarantine.replay quarantine.replay quarantine.discard")
            #expect((try await visitor.get("quarantine/none")).status == 404)
        }
    }

    @Test func everyPageOpensForOperatorsOnlyAndHealthJudgesEveryCheck() async throws {
        try await withOperator { bench, visitor in
            let customer = try await Visitor(bench, 2)
            let titles = [
                ("plans", "Planlar ve modeller"), ("requests", "Limit istekleri"), ("quarantine", "Karantina"),
                ("health", "Sağlık"), ("audit", "Denetim günlüğü"),
            ]
            for (page, title) in titles {
                let answer = try await visitor.get(page, "tr")
                #expect(answer.status == 200 && answer.body.contains("<h1>\(title)</h1>"), "\(answer)")
                #expect((try await customer.get(page)).status == 403)
            }
            let health = try await visitor.get("health")
            #expect(health.body.contains("<dt>Last event</dt>") && health.body.contains("<dt>Partitions</dt>"))
            let unjudged = health.body.matches(of: /<dt>([^<]+)<\/dt><dd>\s*<span lang="en">cannot be judged[^<]*/)
            #expect(unjudged.isEmpty, "\(unjudged.map { String($0.output.0) })")
        }
    }

    @Test func healthChecksRunOnceForManyReaders() async throws {
        try await AdminBench.with { bench in
            let examination = HealthExamination(pool: bench.database.pool(as: .admin), now: { bench.clock.now })
            async let first = examination.result()
            let second = await examination.result()
            bench.clock.advance(by: .seconds(1))
            let third = await examination.result()
            #expect(await first.at == second.at && third.at == second.at)
            #expect(Set(third.lines.map(\.check)) == Set(HealthExamination.checks.map(\.name)))
        }
    }
}
