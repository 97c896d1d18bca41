import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// An event is stored only if its log exists with the recorded id and user, whatever triggers and rules `api_logs` has.
@Suite(.timeLimit(.minutes(30))) struct RowProofTests {
    /// Triggers and rules of an operator or an extension. Each applies to rows of the model `bad`.
    enum Obstacle: String, CaseIterable {
        case removedBefore = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RETURN CASE WHEN NEW.model <> 'bad' THEN NEW END; END $$;
            CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        case otherID = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.model = 'bad' THEN NEW.id := NEW.id + 1000000; END IF; RETURN NEW; END $$;
            CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        case otherUser = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.model = 'bad' THEN NEW.user_id := 2; END IF; RETURN NEW; END $$;
            CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        case removedAfter = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN DELETE FROM public.api_logs WHERE model = 'bad'; RETURN NULL; END $$;
            CREATE TRIGGER t AFTER INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        case movedAfter = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN UPDATE public.api_logs SET id = -id WHERE model = 'bad'; RETURN NULL; END $$;
            CREATE TRIGGER t AFTER INSERT ON public.api_logs FOR EACH STATEMENT EXECUTE FUNCTION public.f()
            """
        case removedAtCommit = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN DELETE FROM public.api_logs WHERE model = 'bad'; RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.api_logs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        case refusedAtCommit = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.model = 'bad' THEN RAISE EXCEPTION 'not today'; END IF; RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.api_logs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.f()
            """

        static let removal = "DROP FUNCTION public.f CASCADE"
    }

    static let rules = [
        "CREATE RULE r AS ON INSERT TO public.api_logs DO INSTEAD NOTHING",
        "CREATE RULE r AS ON INSERT TO public.api_logs DO ALSO DELETE FROM public.api_logs WHERE model = 'bad'",
    ]

    private static func event(_ id: UInt64, _ model: String = "bad") -> UsageEvent {
        var event = UsageEvent.sample(id, by: .user(1), at: StorageBench.noon)
        event.modelGroup = model
        return event
    }

    private func with(_ script: String, _ body: (StorageBench) async throws -> Void) async throws {
        try await StorageBench.with { bench in
            for _ in 0..<2 { try await bench.makeUser() }
            try await bench.pool.withConnection { try $0.executeScript(script) }
            try await body(bench)
        }
    }

    /// Expects that `count` events have logs and facts, and are in counters and rollups.
    private func expect(_ count: Int, _ bench: StorageBench, _ comment: Comment) async throws {
        try await bench.rollUp()
        try await bench.updateCounters()
        let numbers = try await bench.text(
            """
            SELECT concat_ws(' ', (SELECT count(*) FROM public.api_logs), (SELECT count(*) FROM metering.events),
                (SELECT coalesce(sum(requests), 0) FROM metering.quota_usage WHERE period = 'daily'),
                (SELECT coalesce(sum(requests), 0) FROM metering.rollup_15m WHERE user_id = 0))
            """)
        #expect(numbers == "\(count) \(count) \(count) \(count)", comment)
        #expect(try await bench.verify().findings == [], comment)
    }

    private func heal(_ bench: StorageBench, without script: String) async throws -> Int {
        try await bench.pool.withConnection { try $0.executeScript(script) }
        bench.clock.advance(by: .seconds(7200))
        return try await bench.heal()
    }

    @Test(arguments: Obstacle.allCases) func anEventWithoutItsLogIsQuarantined(obstacle: Obstacle) async throws {
        try await with(obstacle.rawValue) { bench in
            let comment: Comment = "\(obstacle)"
            #expect(try await bench.write([Self.event(1)]) == [.quarantined(.laravelUnavailable)], comment)
            try await expect(0, bench, comment)
            // A replay checks its logs like a delivery.
            bench.clock.advance(by: .seconds(3600))
            #expect(try await bench.heal() == 0, comment)
            try await expect(0, bench, comment)
            // Another delivery counts for the same entry.
            #expect(try await bench.write([Self.event(1)]) == [.quarantined(.laravelUnavailable)], comment)
            #expect(try await heal(bench, without: Obstacle.removal) == 1, comment)
            try await expect(1, bench, comment)
            let verdicts = try await bench.write([Self.event(1)])
            #expect(verdicts == [.duplicate(logID: Int64(try await bench.number("SELECT id FROM api_logs")))], comment)
        }
    }

    @Test(arguments: Obstacle.allCases) func theOthersOfItsBatchAreStored(obstacle: Obstacle) async throws {
        try await with(obstacle.rawValue) { bench in
            let comment: Comment = "\(obstacle)"
            let verdicts = try await bench.write((0..<500).map { Self.event($0, $0 == 217 ? "bad" : "m") })
            #expect(verdicts.compactMap(\.?.logID).count == 499, comment)
            #expect(verdicts[217] == .quarantined(.laravelUnavailable), comment)
            try await expect(499, bench, comment)
            // All events of the batch have the obstacle.
            let bad = try await bench.write((500..<520).map { Self.event($0) })
            #expect(bad == Array(repeating: .quarantined(.laravelUnavailable), count: 20), comment)
            // Among many entries, a replay finds the one that can be stored.
            #expect(try await heal(bench, without: Obstacle.removal) == 21, comment)
            try await expect(520, bench, comment)
        }
    }

    @Test(arguments: rules) func aRuleQuarantinesItsEvents(rule: String) async throws {
        try await with(rule) { bench in
            let verdicts = try await bench.write((0..<50).map { Self.event($0, $0 == 3 ? "bad" : "m") })
            #expect(verdicts == Array(repeating: .quarantined(.laravelUnavailable), count: 50))
            try await expect(0, bench, "\(rule)")
            #expect(try await heal(bench, without: "DROP RULE r ON public.api_logs") == 50)
            try await expect(50, bench, "\(rule)")
        }
    }

    /// A trigger gives each row the id of the next one, so that rows of the batch could be mistaken for each other.
    @Test func rowsOfABatchAreNotMistakenForEachOther() async throws {
        let script = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.id := NEW.id + 1; RETURN NEW; END $$;
            CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        try await with(script) { bench in
            let verdicts = try await bench.write((0..<9).map { Self.event($0) })
            #expect(verdicts == Array(repeating: .quarantined(.laravelUnavailable), count: 9))
            try await expect(0, bench, "next id")
            #expect(try await heal(bench, without: Obstacle.removal) == 9)
            try await expect(9, bench, "next id")
        }
    }

    /// A trigger exchanges the ids of a batch. Each id has a row, but not that of its event.
    @Test func exchangedIDsAreNoProof() async throws {
        let script = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.id := NEW.id # 1; RETURN NEW; END $$;
            CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        try await with(script) { bench in
            let verdicts = try await bench.write((0..<9).map { Self.event($0, "model \($0)") })
            #expect(verdicts == Array(repeating: .quarantined(.laravelUnavailable), count: 9))
            try await expect(0, bench, "exchanged ids")
            #expect(try await heal(bench, without: Obstacle.removal) == 9)
            try await expect(9, bench, "exchanged ids")
        }
    }

    /// A trigger may change every value of a row, as long as the row keeps its id and user.
    @Test func aTriggerThatChangesValuesIsNoObstacle() async throws {
        let script = """
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                NEW.model := 'renamed'; NEW.total_cost := 'NaN'; NEW.status := 'error'; NEW.created_at := NULL;
                RETURN NEW;
            END $$;
            CREATE TRIGGER t BEFORE INSERT ON public.api_logs FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        try await with(script) { bench in
            #expect(try await bench.write((0..<9).map { Self.event($0) }).compactMap(\.?.logID).count == 9)
            try await expect(9, bench, "changed values")
        }
    }

    /// A trigger that writes elsewhere is no obstacle.
    @Test func aTriggerThatLeavesTheRowIsNoObstacle() async throws {
        let script = """
            CREATE TABLE public.seen (id bigint);
            CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.api_logs DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.f()
            """
        try await with(script) { bench in
            #expect(try await bench.write((0..<9).map { Self.event($0) }).compactMap(\.?.logID).count == 9)
            #expect(try await bench.number("SELECT count(*) FROM public.seen") == 9)
            try await expect(9, bench, "a log of logs")
        }
    }
}
