import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport

@testable import AdminAPI

/// What comes in by the webhook.
extension LivingTables {
    func event() -> NewEvent {
        let (token, user) = (nextToken(), user())
        var event = UsageEvent.sample(UInt64(token), by: .user(user), at: moment())
        if let key = keys[user], isOneOf(2) { event.identity = .key(key) }
        if isOneOf(8) {
            event.shape = .documented
            event.key = EventKey(idempotencyKey: "t\(token)")
            event.identity = .key("cf_nobody_\(token)")
            event.identity.laravelUserID = user
        }
        event.durationMilliseconds = token
        event.endUser = "t\(token)"
        event.deployment = "d/\(token)"
        event.provider = ["openai", "anthropic", nil].randomElement(using: &random) ?? nil
        event.modelGroup = ["gpt-4", "claude"].randomElement(using: &random) ?? "gpt-4"
        event.status = [.success, .success, .success, .error, .rateLimited].randomElement(using: &random) ?? .success
        event.inputTokens = Int64.random(in: 0...900, using: &random)
        event.outputTokens = isOneOf(4) ? 0 : Int64.random(in: 1...500, using: &random)
        event.cachedTokens = Int64.random(in: 0...event.inputTokens, using: &random)
        event.reasoningTokens = Int64.random(in: 0...event.outputTokens, using: &random)
        event.isStream = isOneOf(3)
        if event.isStream { event.timeToFirstTokenMilliseconds = Int64.random(in: 0...token, using: &random) }
        let picodollars = isOneOf(5) ? 0 : Int64.random(in: 1...2_000_000_000, using: &random)
        event.cost = isOneOf(9) ? nil : DecimalLiteral("\(picodollars)e-12").flatMap(Cost.init)
        if isOneOf(10) { event.flags = [.selfReported] }
        event.isCacheHit = isOneOf(8)
        let fact = LivingModel.Fact(
            user: user, quarter: Int64((Double(event.occurredAt.microseconds) / 900_000_000).rounded(.down)),
            tokens: event.inputTokens, outputTokens: event.outputTokens, cachedTokens: event.cachedTokens,
            reasoningTokens: event.reasoningTokens, duration: token, firstToken: event.timeToFirstTokenMilliseconds,
            picodollars: event.isUnpricedUnlessFree ? nil : event.cost?.picodollars ?? 0,
            microdollars: ((event.cost?.picodollars ?? 0) + 500_000) / 1_000_000, model: event.modelGroup,
            status: event.status.rawValue, isSelfReported: event.flags.contains(.selfReported))
        return (event, fact, token)
    }

    typealias NewEvent = (UsageEvent, LivingModel.Fact, LivingModel.Token)

    func ingest(_ count: Int? = nil, mayWait: Bool = false) async throws {
        let count = count ?? Int.random(in: 1...5, using: &random)
        try await ingest((0..<count).map { _ in event() }, mayWait: mayWait)
    }

    /// An event with as many tokens as fit 64 bits.
    func ingestHuge() async throws {
        var (event, fact, token) = event()
        (event.inputTokens, fact.tokens) = (.max, .max)
        if event.isUnpricedUnlessFree { fact.picodollars = nil }
        try await ingest([(event, fact, token)], mayWait: false)
    }

    func ingest(_ events: [NewEvent], mayWait: Bool) async throws {
        let verdicts = await attempt("ingest") {
            try await queue.submit(events.map { IngestItem(.success($0.0)) })
        }
        for (index, (event, fact, token)) in events.enumerated() {
            if case .stored(let id)? = verdicts?[index] {
                model.events[token] = .init(fact: fact, event: event, logID: id)
            } else if mayWait, case .quarantined(.laravelUnavailable)? = verdicts?[index] {
                waiting.append((event, fact, token))
            } else {
                expect(false, "ingest", "\(token) is \(verdicts.map { "\($0[index])" } ?? "lost")")
            }
        }
    }

    /// What waited in quarantine becomes rows, as nothing keeps it any more.
    func heal() async throws {
        let clock = bench.clock
        let replay = QuarantineReplay(pool: database.pool(as: .webhook), writer: writer, now: { clock.now })
        await attempt("replay") { while try await replay.replay() > 0 {} }
        let rows = try await rows()
        for (event, fact, token) in waiting {
            if let row = rows.first(where: { $0.token == token }) {
                model.events[token] = .init(fact: fact, event: event, logID: row.id)
            } else {
                expect(false, "replay", "\(token) is still no row")
            }
        }
        waiting = []
    }

    /// What a trigger of another's does to rows of the model `triggered`.
    enum Trigger {
        case removal, otherID

        var action: String {
            switch self {
            case .removal: "RETURN NULL;"
            case .otherID: "NEW.id := NEW.id + 1000000;"
            }
        }
    }

    /// An event that a trigger keeps from being the row that we know is not acknowledged as one. The others of its
    /// batch are.
    func ingest(under trigger: Trigger) async throws {
        try await script(
            """
            CREATE FUNCTION public.story_trigger() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN IF NEW.model = 'triggered' THEN \(trigger.action) END IF; RETURN NEW; END $body$;
            CREATE TRIGGER story_trigger BEFORE INSERT ON public.api_logs
            FOR EACH ROW EXECUTE FUNCTION public.story_trigger();
            """)
        var events = (0..<3).map { _ in event() }
        (events[1].0.modelGroup, events[1].1.model) = ("triggered", "triggered")
        try await ingest(events, mayWait: true)
        let (rows, token) = (try await rows(), events[1].2)
        let kind = "ingest under a trigger"
        expect(waiting.map(\.2) == [token], kind, "\(token) is acknowledged without its row")
        expect(!rows.contains { $0.token == token }, kind, "\(token) has a row that we do not know")
        try await readAnything()
        try await script("DROP TRIGGER story_trigger ON public.api_logs; DROP FUNCTION public.story_trigger()")
        try await heal()
    }

    func script(_ statements: String) async throws {
        try await pool.withConnection { try $0.executeScript(statements) }
    }

    func sendAgain() async throws {
        guard let token = model.events.keys.sorted().randomElement(using: &random), let sent = model.events[token],
            users.contains(sent.fact.user), sent.event.identity.presentedKey == nil
        else { return }
        let verdicts = await attempt("ingest") { try await queue.submit([IngestItem(.success(sent.event))]) }
        expect(verdicts == [.duplicate(logID: sent.logID)], "sent again", "\(token) is \(String(describing: verdicts))")
    }

    func withdraw() async throws {
        guard let token = model.events.keys.sorted().randomElement(using: &random), let event = model.events[token]
        else { return }
        let (before, now) = (try await rows(), now)
        let isWithdrawn = await attempt("withdraw") {
            do {
                let pool = database.pool(as: .operator)
                // As `codexflow event withdraw` does.
                _ = try await pool.withConnection { try IDLine.look($0) }
                _ = try await pool.transaction {
                    try EventWithdrawal.withdraw(.key(event.event.key), reason: nil, $0, now: now)
                }
                return true
            } catch let refusal as AppError where refusal.message.contains("saturated") {
                // A huge event of a user who is gone: its sums can be neither subtracted from nor made again.
                return false
            }
        }
        guard isWithdrawn == true else {
            expect(try await self.rows() == before, "withdraw", "refused, and changed rows")
            return
        }
        let after = try await rows()
        let isRight =
            after == before.filter { $0.token != token } || (event.isTouched && after == before)
            || after == before.filter { model.shadowed[$0.token] != token || !passes($0.fact, for: event.fact) }
        expect(isRight, "withdraw", "took \(Set(before).subtracting(after)) for \(token)")
        model.withdraw(token, after, passedID: passedID)
    }

    /// Whether a row that another writer inserted under an event's id may be taken for the event's row, which was
    /// corrected: it is of the same user, and of the same time or the same model and tokens.
    private func passes(_ row: LivingModel.Fact, for event: LivingModel.Fact) -> Bool {
        row.user == event.user
            && (row.quarter == event.quarter
                || (row.model, row.tokens, row.outputTokens) == (event.model, event.tokens, event.outputTokens))
    }
}
