import Analytics
import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Ids of `api_logs` that begin again: nothing is missed, counted twice or shown with another call's facts.
@Suite(.timeLimit(.minutes(30))) struct IDLineTests {
    /// How an operator makes the ids begin again.
    enum Restart: String, CaseIterable {
        case truncate = "TRUNCATE public.api_logs RESTART IDENTITY"
        case deleteAndSet = "DELETE FROM public.api_logs; SELECT setval('public.api_logs_id_seq', 1, false)"
        case deleteAndAlter = "DELETE FROM public.api_logs; ALTER SEQUENCE public.api_logs_id_seq RESTART"

        /// Whether it leaves a trace, however many ids were given out since.
        var leavesTrace: Bool { self != .deleteAndSet }
    }

    /// What is written after it.
    enum Refill: CaseIterable {
        case events, logs, mixed, logsBeyondTheFormer, mixedBeyondTheFormer
    }

    /// Days since 1970 around all that the tests write.
    private static let autumn = RollupRange(from: 20_400, to: 20_800)

    private static func event(_ id: UInt64, _ user: Int64, minutesAgo: Int64 = 0) -> UsageEvent {
        .sample(id, by: .user(user), at: StorageBench.noon.advanced(by: .seconds(-60 * minutesAgo)))
    }

    /// What `admin-api` reports.
    private func requests(_ bench: StorageBench, _ user: Int64) async throws -> Int64 {
        try await bench.report { snapshot in
            let range = try ReportRange.days("2026-11-01", "2026-12-01", in: "UTC", snapshot.connection)
            return try CallCount.read(.user(user), range, on: snapshot).calls
        }
    }

    /// The provider that the detail of each row shows, by id.
    private func details(_ bench: StorageBench) async throws -> [Int64: String] {
        let ids = try await bench.pool.withConnection { connection in
            try connection.query("SELECT id FROM public.api_logs ORDER BY id").map { try $0.decode(0, as: Int64.self) }
        }
        return try await bench.admin.withConnection { connection in
            let entries = try LogEntries.read(ids, connection)
            #expect((0..<entries.count).map(entries.id) == ids)
            let providers = (0..<entries.count).map { entries.value($0, "provider") ?? "-" }
            return Dictionary(uniqueKeysWithValues: zip(ids, providers))
        }
    }

    private func execute(_ script: String, _ bench: StorageBench) async throws {
        try await bench.pool.withConnection { try $0.executeScript(script) }
    }

    private func findings(_ bench: StorageBench) async throws -> [String] {
        try await bench.verify().findings.map { "\($0)" }
    }

    private func repair(_ bench: StorageBench) async throws -> [Int] {
        let outcome = try await RollupRebuild(pool: bench.worker).repair(Self.autumn) { _, _ in }
        return [outcome.cells, outcome.counters]
    }

    /// What a user and all users see is `count`, before and after each pass, and it is proved; nothing is there to
    /// repair.
    private func expect(_ count: Int64, of user: Int64, _ bench: StorageBench, _ comment: Comment) async throws {
        for round in 0..<3 {
            #expect(try await requests(bench, user) == count, "\(comment), round \(round)")
            #expect(try await requests(bench, user) == Int64(bench.requests(of: user)), comment)
            try await bench.rollUp()
        }
        #expect(try await findings(bench) == [], comment)
        #expect(try await repair(bench) == [0, 0], comment)
        #expect(try await requests(bench, user) == count, comment)
    }

    @Test(arguments: Restart.allCases, Refill.allCases)
    func nothingIsMissedOrCountedTwice(restart: Restart, refill: Refill) async throws {
        for isRolledUp in [false, true] {
            let isBeyond = refill == .logsBeyondTheFormer || refill == .mixedBeyondTheFormer
            let hasEvents = refill != .logs && refill != .logsBeyondTheFormer
            // No trace, and beyond the former ids before anything looked: it cannot be known (0018_id_line.sql).
            if isBeyond, !restart.leavesTrace, !(isRolledUp && hasEvents) { continue }
            let comment: Comment = "\(restart), \(refill), rolled up: \(isRolledUp)"
            try await StorageBench.with { bench in
                let user = try await bench.makeUser(plan: "pro")
                for _ in 0..<3 { try await bench.writeAsLaravel(user) }
                _ = try await bench.write((1...3).map { Self.event($0, user, minutesAgo: 30) })
                if isRolledUp { try await bench.rollUp() }
                try await execute(restart.rawValue, bench)
                let logs = refill == .events ? 0 : isBeyond ? 12 : 2
                var stored: [Verdict?] = []
                if hasEvents { stored += try await bench.write([Self.event(11, user)]) }
                for _ in 0..<logs { try await bench.writeAsLaravel(user, at: "2026-11-23 11:00:00") }
                if hasEvents { stored += try await bench.write([Self.event(12, user)]) }
                #expect(stored.compactMap(\.?.logID).count == (hasEvents ? 2 : 0), comment)
                // History is kept: events are, and Laravel's rows that were rolled up.
                let count = Int64(3 + (isRolledUp ? 3 : 0) + logs + stored.count)
                try await expect(count, of: user, bench, comment)
                for (id, provider) in try await details(bench) {
                    #expect((provider == "openai") == stored.contains { $0?.logID == id }, "\(comment), log \(id)")
                }
            }
        }
    }

    @Test(arguments: Restart.allCases) func itHappensTwiceInARow(restart: Restart) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            var stored: [UInt64: Int64] = [:]
            for round: UInt64 in 0..<3 {
                for id in [round * 10, round * 10 + 1] {
                    stored[id] = try await bench.write([Self.event(id, user)]).first.flatMap(\.?.logID)
                }
                try await bench.writeAsLaravel(user)
                if round != 1 { try await bench.rollUp() }
                if round < 2 { try await execute(restart.rawValue, bench) }
            }
            // The second round was not rolled up: Laravel's row of it is as if it had never been.
            try await expect(8, of: user, bench, "\(restart)")
            // A delivery that comes again meets its twin, under the id it was answered with.
            for (id, logID) in stored {
                #expect(try await bench.write([Self.event(id, user)]) == [.duplicate(logID: logID)])
            }
            #expect(stored.count == 6 && Set(stored.values).count < 6)
            #expect(try await bench.number("SELECT count(*) FROM metering.id_epochs") == 3)
        }
    }

    @Test(arguments: Restart.allCases) func twiceWithNothingBetween(restart: Restart) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user), Self.event(2, user)])
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            for _ in 0..<3 {
                try await execute(restart.rawValue, bench)
                _ = try await bench.worker.withConnection { try IDLine.look($0) }
                // Rows that are gone before a position was known.
                try await bench.writeAsLaravel(user)
            }
            try await execute(restart.rawValue, bench)
            #expect(try await requests(bench, user) == 3)
            #expect(try await bench.write([Self.event(3, user)]).first.flatMap(\.?.logID) != nil)
            try await expect(4, of: user, bench, "\(restart)")
            #expect(try await bench.write([Self.event(1, user)]) == [.duplicate(logID: 1)])
        }
    }

    /// A row that an operator changed after it was added to the sums is not a new one.
    @Test(arguments: ["id = 1", "id IN (1, 3)", "id = 5", "id IN (1, 5)"])
    func changedRowsAreKept(changed: String) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for _ in 0..<6 { try await bench.writeAsLaravel(user) }
            try await bench.rollUp()
            // 2 and 4 are kept for certain, and 5 is ahead of the sequence.
            try await execute(
                """
                UPDATE public.api_logs SET updated_at = created_at WHERE \(changed);
                SELECT setval('public.api_logs_id_seq', 4)
                """, bench)
            #expect(try await bench.worker.withConnection { try IDLine.look($0) })
            #expect(try await bench.worker.withConnection { try !IDLine.look($0) })
            try await expect(6, of: user, bench, "\(changed)")
        }
    }

    @Test func keptRowsBeforeTheNewOnes() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for round: UInt64 in 0..<3 {
                _ = try await bench.write([Self.event(round, user, minutesAgo: 20)])
                try await bench.writeAsLaravel(user)
            }
            try await bench.rollUp()
            try await execute(
                "DELETE FROM public.api_logs WHERE id > 2; SELECT setval('public.api_logs_id_seq', 2)", bench)
            try await bench.writeAsLaravel(user, at: "2026-11-23 10:00:00")
            // What was drawn before the ids were known to begin again is a gap.
            let stored = try await bench.write([Self.event(9, user)])
            #expect(stored == [.stored(logID: 5)])
            try await expect(8, of: user, bench, "kept before")
            #expect(try await details(bench) == [1: "openai", 2: "-", 3: "-", 5: "openai"])
        }
    }

    @Test func keptRowsBetweenTheNewOnes() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for round: UInt64 in 0..<4 {
                _ = try await bench.write([Self.event(round, user, minutesAgo: 20)])
                try await bench.writeAsLaravel(user)
            }
            try await bench.rollUp()
            // 1, 2 and 5 are free.
            try await execute(
                """
                DELETE FROM public.api_logs WHERE id IN (1, 2, 5);
                SELECT setval('public.api_logs_id_seq', 1, false)
                """, bench)
            // No id is drawn in vain.
            _ = try await bench.worker.withConnection { try IDLine.look($0) }
            #expect(try await bench.write([Self.event(9, user)]) == [.stored(logID: 1)])
            try await bench.writeAsLaravel(user, at: "2026-11-23 10:00:00")
            #expect(try await requests(bench, user) == 10)
            try await bench.rollUp()
            // Ids that are taken are refused by PostgreSQL one by one, and the event waits.
            for id: UInt64 in 10..<17 { _ = try await bench.write([Self.event(id, user)]) }
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL") > 0)
            for _ in 0..<4 {
                bench.clock.advance(by: .seconds(3600))
                _ = try await bench.heal()
            }
            #expect(try await bench.number("SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL") == 0)
            try await expect(17, of: user, bench, "kept between")
            let providers = try await details(bench)
            #expect(providers.values.filter { $0 == "openai" }.count == 10)
            #expect(providers[2] == "-" && providers[3] == "openai" && providers[4] == "-" && providers[5] == "openai")
        }
    }

    @Test func aBatchInFlightIsDoneAgain() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user, minutesAgo: 9), Self.event(2, user, minutesAgo: 9)])
            try await bench.rollUp()
            // It waits for the first key, after it has drawn an id for it and before it draws one for the second.
            let first = Self.event(11, user)
            let holder = try await OpenTransaction.begin(bench.pool) { connection in
                try connection.execute(
                    """
                    INSERT INTO metering.events
                    SELECT \(first.key.description)::uuid, api_log_id, user_id, occurred_at, input_tokens,
                        output_tokens,
                           cached_tokens, reasoning_tokens, duration_ms, first_token_ms, billable_digest, quota_tokens,
                           quota_requests, is_stream, is_cache_hit, cost, shape, status, plan, provider, model_group
                    FROM metering.events LIMIT 1
                    """)
                try connection.execute("DELETE FROM metering.events WHERE event_key = \(first.key.description)::uuid")
            }
            let writing = Task { try await bench.write([first, Self.event(12, user)]) }
            let waiting: Query = """
                SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted
                """
            #expect(try await bench.number(waiting, becoming: 1, within: .seconds(20)) == 1)
            try await execute("DELETE FROM public.api_logs; SELECT setval('public.api_logs_id_seq', 1, false)", bench)
            try await holder.end()
            let verdicts = try await writing.value
            #expect(verdicts.compactMap(\.?.logID).count == 2)
            #expect(try await bench.number("SELECT count(*) FROM public.api_logs") == 2)
            #expect(
                try await details(bench)
                    == Dictionary(
                        uniqueKeysWithValues: verdicts.compactMap(\.?.logID).map { ($0, "openai") }))
            try await expect(4, of: user, bench, "in flight")
        }
    }

    @Test(arguments: [
        "CACHE 1", "MAXVALUE 9000000000", "OWNED BY public.api_logs.id", "RESTART WITH 100", "INCREMENT BY 1",
    ])
    func aSequenceThatGoesOnBeginsNoEpoch(change: String) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user)])
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            // Rows that no pass has seen.
            try await bench.writeAsLaravel(user)
            _ = try await bench.write([Self.event(2, user)])
            try await execute("ALTER SEQUENCE public.api_logs_id_seq \(change)", bench)
            _ = try await bench.write([Self.event(3, user)])
            try await bench.writeAsLaravel(user)
            try await expect(6, of: user, bench, "\(change)")
            #expect(try await bench.number("SELECT count(*) FROM metering.id_epochs") == 1)
        }
    }

    /// The sequence stood below what was known although nothing was given out twice, as after a restore without it.
    @Test(arguments: [false, true]) func anEpochForNothingChangesNoFigure(isRolledUp: Bool) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user), Self.event(2, user)])
            for _ in 0..<2 { try await bench.writeAsLaravel(user) }
            if isRolledUp { try await bench.rollUp() }
            _ = try await bench.write([Self.event(3, user)])
            try await execute("SELECT setval('public.api_logs_id_seq', 2)", bench)
            #expect(try await requests(bench, user) == 5)
            #expect(try await bench.number("SELECT count(*) FROM metering.id_epochs") == 2)
            try await execute("SELECT setval('public.api_logs_id_seq', (SELECT max(id) FROM public.api_logs))", bench)
            _ = try await bench.write([Self.event(4, user)])
            try await bench.writeAsLaravel(user)
            try await expect(7, of: user, bench, "for nothing")
            #expect(try await details(bench).values.filter { $0 == "openai" }.count == 4)
        }
    }

    @Test func sumsOfRemovedRowsStayAndEventsAreStillProved() async throws {
        try await StorageBench.with { bench in
            let (ada, bob) = (try await bench.makeUser(), try await bench.makeUser())
            _ = try await bench.write([Self.event(1, ada), Self.event(2, bob)])
            try await bench.writeAsLaravel(ada)
            try await bench.rollUp()
            try await bench.updateCounters()
            try await execute(Restart.truncate.rawValue, bench)
            try await bench.rollUp()
            #expect(try await findings(bench) == [])
            // An event's cell and counter that are wrong are found and repaired as ever.
            try await bench.execute("UPDATE metering.rollup_15m SET requests = 7 WHERE user_id = \(bob)")
            try await bench.execute("UPDATE metering.quota_usage SET requests = 7 WHERE user_id = \(bob)")
            #expect(try await findings(bench).count == 4)
            _ = try await repair(bench)
            try await expect(2, of: ada, bench, "Ada")
            try await expect(1, of: bob, bench, "Bob")
        }
    }

    @Test func nothingIsSealedWhereOnlyEventsWereRemoved() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user)])
            try await bench.rollUp()
            try await execute(Restart.truncate.rawValue, bench)
            try await expect(1, of: user, bench, "events")
            #expect(
                try await bench.text("SELECT logs_sealed_before::text FROM metering.rollup_watermark") == "-infinity")
        }
    }

    @Test(arguments: [
        "UPDATE public.api_logs SET user_id = 2",
        "UPDATE public.api_logs SET created_at = created_at + interval '1 second'",
        "UPDATE public.api_logs SET model = 'other'", "UPDATE public.api_logs SET input_tokens = 7",
        "UPDATE public.api_logs SET output_tokens = 7", "UPDATE public.api_logs SET status = 'error'",
        """
        DELETE FROM public.api_logs;
        INSERT INTO public.api_logs
            (id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, created_at)
        VALUES (1, 1, 'gpt-4', 100, 50, 0.5, 1, '2026-11-20 00:00:00')
        """,
    ]) func anotherRowUnderTheIdHasNoFacts(change: String) async throws {
        try await StorageBench.with { bench in
            for _ in 0..<2 { try await bench.makeUser() }
            _ = try await bench.write([Self.event(1, 1)])
            func ofProvider() async throws -> Int {
                try await bench.admin.withConnection { connection in
                    var filter = LogFilter()
                    filter.providers = ["openai"]
                    return try LogList.read(filter, by: .time, limit: 10, connection).ids.count
                }
            }
            try await bench.execute(
                "UPDATE public.api_logs SET total_cost = 9, response_time_ms = 7, updated_at = now()")
            #expect(try await details(bench) == [1: "openai"])
            #expect(try await ofProvider() == 1)
            try await execute(change, bench)
            #expect(try await details(bench) == [1: "-"])
            #expect(try await ofProvider() == 0)
        }
    }

    @Test func rowsWithIdsOfTheirOwn() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            func insert(_ id: Int64, at time: String) async throws {
                try await bench.execute(
                    """
                    INSERT INTO public.api_logs (id, user_id, model, input_tokens, output_tokens, total_cost,
                                                 response_time_ms, created_at)
                    VALUES (\(id), \(user), 'gpt-4', 1, 1, 0.5, 1, \(time)::timestamp)
                    """)
            }
            for _ in 0..<3 { try await bench.writeAsLaravel(user) }
            _ = try await bench.write([Self.event(1, user)])
            try await bench.rollUp()
            // Ahead of the sequence, by a little and by as much as there is.
            try await insert(6, at: "2026-11-23 10:00:00")
            try await insert(.max, at: "2026-11-23 10:30:00")
            #expect(try await requests(bench, user) == 6)
            _ = try await bench.write([Self.event(2, user)])
            try await expect(7, of: user, bench, "ahead")
            // Under an id that is free again: readers and passes are past it, and `rebuild` is not.
            try await bench.execute("DELETE FROM public.api_logs WHERE id = 2")
            try await insert(2, at: "2026-11-21 10:00:00")
            try await bench.rollUp()
            #expect(try await findings(bench).contains { $0.contains("2026-11-21T10:00:00Z") })
            #expect(try await repair(bench)[0] > 0)
            try await expect(7, of: user, bench, "under a free id")
            // Nothing overflows in a later epoch either.
            try await execute(
                """
                DELETE FROM public.api_logs WHERE id < 9000; SELECT setval('public.api_logs_id_seq', 1, false)
                """, bench)
            let stored = try await bench.write([Self.event(3, user)]).first.flatMap(\.?.logID)
            let count = try await requests(bench, user)
            try await bench.rollUp()
            #expect(try await requests(bench, user) == count)
            #expect(try await details(bench) == [try #require(stored): "openai", .max: "-"])
        }
    }

    /// A row that was inserted under the id of an event, whose own row is gone, is of no event when that is withdrawn.
    @Test(arguments: [false, true]) func aRowUnderTheIDOfAnEvent(isRolledUp: Bool) async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let other = try await bench.makeUser()
            let event = Self.event(1, user)
            let logID = try #require(try await bench.write([event, Self.event(2, user)]).first.flatMap(\.?.logID))
            if isRolledUp { try await bench.rollUp() }
            try await bench.execute("DELETE FROM public.api_logs WHERE id = \(logID)")
            try await bench.execute(
                """
                INSERT INTO public.api_logs (id, user_id, model, input_tokens, output_tokens, total_cost,
                                             response_time_ms, created_at)
                VALUES (\(logID), \(other), 'gpt-4', 1, 1, 0.5, 1, '2026-11-21 10:00:00')
                """)
            if isRolledUp { try await expect(0, of: other, bench, "while it passes for the event's row") }
            #expect(try await requests(bench, other) == 0)
            let now = bench.clock.now
            let withdrawn = try await bench.operator.transaction {
                try EventWithdrawal.withdraw(.key(event.key), reason: nil, $0, now: now)
            }
            #expect(!withdrawn.hadLog)
            #expect(try await requests(bench, user) == 1)
            try await bench.rollUp()
            if isRolledUp {
                #expect(try await findings(bench).contains { $0.contains("2026-11-21T10:00:00Z") })
                #expect(try await repair(bench)[0] > 0)
            }
            try await expect(1, of: other, bench, "after the withdrawal")
            try await expect(1, of: user, bench, "the event that is left")
        }
    }

    @Test func anEventIsWithdrawnAndNoOther() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            let (former, gone, new) = (
                Self.event(1, user, minutesAgo: 9), Self.event(2, user, minutesAgo: 9), Self.event(3, user)
            )
            _ = try await bench.write([former, gone])
            try await bench.rollUp()
            try await execute(Restart.truncate.rawValue, bench)
            let now = bench.clock.now
            func withdraw(_ subject: EventWithdrawal.Subject) async throws -> EventWithdrawal.Withdrawn {
                try await bench.operator.transaction {
                    try EventWithdrawal.withdraw(subject, reason: nil, $0, now: now)
                }
            }
            await #expect(throws: AppError.self) { try await withdraw(.key(former.key)) }
            _ = try await bench.worker.withConnection { try IDLine.look($0) }
            #expect(try await bench.write([new]) == [.stored(logID: 1)])
            try await bench.rollUp()
            // The row under its id is another call's, and stays.
            let first = try await withdraw(.key(former.key))
            #expect(first.logID == 1 && !first.hadLog && first.wasRolledUp)
            #expect(try await details(bench) == [1: "openai"])
            // By the id of a row it is that row's event; by an id that no row has, the one that had it.
            let second = try await withdraw(.log(1))
            #expect(second.key == new.key && second.hadLog)
            #expect(try await withdraw(.log(2)).key == gone.key)
            #expect(try await bench.write([former, gone, new]) == [1, 2, 1].map { .duplicate(logID: $0) })
            try await expect(0, of: user, bench, "withdrawn")
            // The row of Laravel's under a former id is not that event's.
            _ = try await bench.write([Self.event(4, user)])
            try await execute(Restart.truncate.rawValue, bench)
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            await #expect(throws: AppError.self) { try await withdraw(.log(1)) }
            try await expect(2, of: user, bench, "kept")
        }
    }

    @Test func theDoctorReportsIt() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            func finding(after days: Int64 = 0) async throws -> Finding {
                try await bench.operator.withConnection {
                    try IDLine.finding($0, now: .now.advanced(by: .seconds(days * 86_400)))
                }
            }
            #expect(try await finding().level == .ok)
            _ = try await bench.write([Self.event(1, user)])
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            try await execute(Restart.truncate.rawValue, bench)
            let new = try await finding()
            #expect(new.level == .warning && new.remedy?.contains("aggregation-worker once") == true)
            try await bench.rollUp()
            let handled = try await finding()
            #expect(handled.level == .warning && handled.message.contains("began again once at 20"))
            #expect(handled.remedy?.contains("does not prove") == true, "\(handled)")
            #expect(try await finding(after: 8).level == .ok)
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            try await execute(Restart.truncate.rawValue, bench)
            try await bench.writeAsLaravel(user)
            try await bench.rollUp()
            #expect(try await finding().message.contains("2 times"))
        }
    }

    @Test func otherTablesBeginAtTheFirstEpoch() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            _ = try await bench.write([Self.event(1, user)])
            try await bench.rollUp()
            try await execute(Restart.truncate.rawValue, bench)
            _ = try await bench.worker.withConnection { try IDLine.look($0) }
            _ = try await bench.write([Self.event(2, user)])
            // The same rows in a table that was made again.
            try await execute(
                """
                UPDATE metering.installation SET api_logs_table = 1;
                UPDATE metering.id_epochs SET sequence_file = 1 WHERE epoch = 1
                """, bench)
            func adopt(_ discards: Bool) async throws -> Installation.Adoption {
                try await bench.owner.withConnection {
                    try Installation.adopt($0, discardingHistory: discards, now: StorageBench.noon)
                }
            }
            #expect(try await adopt(false) == .sameIDs)
            try await expect(2, of: user, bench, "the same")
            #expect(try await details(bench) == [1: "openai"])
            try await execute("UPDATE metering.installation SET api_logs_table = 1", bench)
            #expect(try await adopt(true) == .discardedHistory)
            #expect(try await bench.number("SELECT count(*) FROM metering.id_epochs") == 1)
            _ = try await bench.write([Self.event(3, user)])
            try await expect(2, of: user, bench, "others")
        }
    }

    @Test func oldLogsAreDeletedByTheirPlaceOnTheLine() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            for _ in 0..<2 { try await bench.writeAsLaravel(user, at: "2026-01-01 00:00:00") }
            try await bench.rollUp()
            try await execute(Restart.truncate.rawValue, bench)
            for _ in 0..<3 { try await bench.writeAsLaravel(user, at: "2026-01-02 00:00:00") }
            let now = bench.clock.now
            func retain() async throws -> Int {
                try await LogRetention(pool: bench.owner).run(days: 30, now: now) { _, _ in }
            }
            // They are in no sums yet.
            _ = try await bench.worker.withConnection { try IDLine.look($0) }
            #expect(try await retain() == 0)
            try await bench.rollUp()
            #expect(try await retain() == 3)
            #expect(try await bench.requests(of: user) == 5)
        }
    }
}
