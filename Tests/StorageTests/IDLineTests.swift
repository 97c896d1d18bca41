import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Ids of `api_logs` that begin again: nothing is missed, counted twice or shown with another call's facts.
@Suite(.timeLimit(.minutes(15))) struct IDLineTests {
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
    private static let autumn = UsageRange(from: 20_400, to: 20_800)

    private static func event(_ id: UInt64, _ user: Int64, minutesAgo: Int64 = 0) -> UsageEvent {
        .sample(id, by: .user(user), at: Ledger.noon.advanced(by: .seconds(-60 * minutesAgo)))
    }

    /// What `admin-api` reports.
    private func requests(_ ledger: Ledger, _ user: Int64) async throws -> Int64 {
        try await ledger.report { snapshot in
            let range = try ReportRange.days("2026-11-01", "2026-12-01", in: "UTC", snapshot.connection)
            return try CallCount(.user(user), range, snapshot).calls
        }
    }

    /// The provider that the detail of each row shows, by id.
    private func details(_ ledger: Ledger) async throws -> [Int64: String] {
        let ids = try await ledger.pool.withConnection { connection in
            try connection.query("SELECT id FROM public.api_logs ORDER BY id").map { try $0.decode(0, as: Int64.self) }
        }
        return try await ledger.admin.withConnection { connection in
            let rows = try ids.map { try LogRow.require($0, connection) }
            let entries = try LogEntry.of(rows, connection)
            return Dictionary(uniqueKeysWithValues: entries.map { ($0.row.id, $0.facts?.provider ?? "-") })
        }
    }

    private func execute(_ script: String, _ ledger: Ledger) async throws {
        try await ledger.pool.withConnection { try $0.executeScript(script) }
    }

    private func findings(_ ledger: Ledger) async throws -> [String] {
        try await ledger.verify().findings.map { "\($0)" }
    }

    private func mend(_ ledger: Ledger) async throws -> [Int] {
        let outcome = try await UsageRebuild(pool: ledger.worker).mend(Self.autumn) { _, _ in }
        return [outcome.cells, outcome.counters]
    }

    /// What a user and all users see is `count`, before and after each pass, and it is proved; nothing is there to
    /// repair.
    private func expect(_ count: Int64, of user: Int64, _ ledger: Ledger, _ comment: Comment) async throws {
        for round in 0..<3 {
            #expect(try await requests(ledger, user) == count, "\(comment), round \(round)")
            #expect(try await requests(ledger, user) == Int64(ledger.requests(of: user)), comment)
            try await ledger.fold()
        }
        #expect(try await findings(ledger) == [], comment)
        #expect(try await mend(ledger) == [0, 0], comment)
        #expect(try await requests(ledger, user) == count, comment)
    }

    @Test(arguments: Restart.allCases, Refill.allCases)
    func nothingIsMissedOrCountedTwice(restart: Restart, refill: Refill) async throws {
        for isFolded in [false, true] {
            let isBeyond = refill == .logsBeyondTheFormer || refill == .mixedBeyondTheFormer
            let hasEvents = refill != .logs && refill != .logsBeyondTheFormer
            // No trace, and beyond the former ids before anything looked: it cannot be known (0018_id_line.sql).
            if isBeyond, !restart.leavesTrace, !(isFolded && hasEvents) { continue }
            let comment: Comment = "\(restart), \(refill), folded: \(isFolded)"
            try await Ledger.with { ledger in
                let user = try await ledger.makeUser(plan: "pro")
                for _ in 0..<3 { try await ledger.writeAsLaravel(user) }
                _ = try await ledger.write((1...3).map { Self.event($0, user, minutesAgo: 30) })
                if isFolded { try await ledger.fold() }
                try await execute(restart.rawValue, ledger)
                let logs = refill == .events ? 0 : isBeyond ? 12 : 2
                var stored: [Verdict?] = []
                if hasEvents { stored += try await ledger.write([Self.event(11, user)]) }
                for _ in 0..<logs { try await ledger.writeAsLaravel(user, at: "2026-11-23 11:00:00") }
                if hasEvents { stored += try await ledger.write([Self.event(12, user)]) }
                #expect(stored.compactMap(\.?.logID).count == (hasEvents ? 2 : 0), comment)
                // History is kept: events are, and Laravel's rows that were folded.
                let count = Int64(3 + (isFolded ? 3 : 0) + logs + stored.count)
                try await expect(count, of: user, ledger, comment)
                for (id, provider) in try await details(ledger) {
                    #expect((provider == "openai") == stored.contains { $0?.logID == id }, "\(comment), log \(id)")
                }
            }
        }
    }

    @Test(arguments: Restart.allCases) func itHappensTwiceInARow(restart: Restart) async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            var stored: [UInt64: Int64] = [:]
            for round: UInt64 in 0..<3 {
                for id in [round * 10, round * 10 + 1] {
                    stored[id] = try await ledger.write([Self.event(id, user)]).first.flatMap(\.?.logID)
                }
                try await ledger.writeAsLaravel(user)
                if round != 1 { try await ledger.fold() }
                if round < 2 { try await execute(restart.rawValue, ledger) }
            }
            // The second round was not folded: Laravel's row of it is as if it had never been.
            try await expect(8, of: user, ledger, "\(restart)")
            // A delivery that comes again meets its twin, under the id it was answered with.
            for (id, logID) in stored {
                #expect(try await ledger.write([Self.event(id, user)]) == [.duplicate(logID: logID)])
            }
            #expect(stored.count == 6 && Set(stored.values).count < 6)
            #expect(try await ledger.number("SELECT count(*) FROM metering.id_epochs") == 3)
        }
    }

    @Test(arguments: Restart.allCases) func twiceWithNothingBetween(restart: Restart) async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([Self.event(1, user), Self.event(2, user)])
            try await ledger.writeAsLaravel(user)
            try await ledger.fold()
            for _ in 0..<3 {
                try await execute(restart.rawValue, ledger)
                _ = try await ledger.worker.withConnection { try IDLine.look($0) }
                // Rows that are gone before a position was known.
                try await ledger.writeAsLaravel(user)
            }
            try await execute(restart.rawValue, ledger)
            #expect(try await requests(ledger, user) == 3)
            #expect(try await ledger.write([Self.event(3, user)]).first.flatMap(\.?.logID) != nil)
            try await expect(4, of: user, ledger, "\(restart)")
            #expect(try await ledger.write([Self.event(1, user)]) == [.duplicate(logID: 1)])
        }
    }

    /// A row that an operator changed after it was added to the sums is not a new one.
    @Test(arguments: ["id = 1", "id IN (1, 3)", "id = 5", "id IN (1, 5)"])
    func changedRowsAreKept(changed: String) async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            for _ in 0..<6 { try await ledger.writeAsLaravel(user) }
            try await ledger.fold()
            // 2 and 4 are kept for certain, and 5 is ahead of the sequence.
            try await execute(
                """
                UPDATE public.api_logs SET updated_at = created_at WHERE \(changed);
                SELECT setval('public.api_logs_id_seq', 4)
                """, ledger)
            #expect(try await ledger.worker.withConnection { try IDLine.look($0) })
            #expect(try await ledger.worker.withConnection { try !IDLine.look($0) })
            try await expect(6, of: user, ledger, "\(changed)")
        }
    }

    @Test func keptRowsBeforeTheNewOnes() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            for round: UInt64 in 0..<3 {
                _ = try await ledger.write([Self.event(round, user, minutesAgo: 20)])
                try await ledger.writeAsLaravel(user)
            }
            try await ledger.fold()
            try await execute(
                "DELETE FROM public.api_logs WHERE id > 2; SELECT setval('public.api_logs_id_seq', 2)", ledger)
            try await ledger.writeAsLaravel(user, at: "2026-11-23 10:00:00")
            // What was drawn before the ids were known to begin again is a gap.
            let stored = try await ledger.write([Self.event(9, user)])
            #expect(stored == [.stored(logID: 5)])
            try await expect(8, of: user, ledger, "kept before")
            #expect(try await details(ledger) == [1: "openai", 2: "-", 3: "-", 5: "openai"])
        }
    }

    @Test func keptRowsBetweenTheNewOnes() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            for round: UInt64 in 0..<4 {
                _ = try await ledger.write([Self.event(round, user, minutesAgo: 20)])
                try await ledger.writeAsLaravel(user)
            }
            try await ledger.fold()
            // 1, 2 and 5 are free.
            try await execute(
                """
                DELETE FROM public.api_logs WHERE id IN (1, 2, 5);
                SELECT setval('public.api_logs_id_seq', 1, false)
                """, ledger)
            // No id is drawn in vain.
            _ = try await ledger.worker.withConnection { try IDLine.look($0) }
            #expect(try await ledger.write([Self.event(9, user)]) == [.stored(logID: 1)])
            try await ledger.writeAsLaravel(user, at: "2026-11-23 10:00:00")
            #expect(try await requests(ledger, user) == 10)
            try await ledger.fold()
            // Ids that are taken are refused by PostgreSQL one by one, and the event waits.
            for id: UInt64 in 10..<17 { _ = try await ledger.write([Self.event(id, user)]) }
            #expect(try await ledger.number("SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL") > 0)
            for _ in 0..<4 {
                ledger.clock.advance(by: .seconds(3600))
                _ = try await ledger.heal()
            }
            #expect(try await ledger.number("SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL") == 0)
            try await expect(17, of: user, ledger, "kept between")
            let providers = try await details(ledger)
            #expect(providers.values.filter { $0 == "openai" }.count == 10)
            #expect(providers[2] == "-" && providers[3] == "openai" && providers[4] == "-" && providers[5] == "openai")
        }
    }

    @Test func aBatchInFlightIsDoneAgain() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([Self.event(1, user, minutesAgo: 9), Self.event(2, user, minutesAgo: 9)])
            try await ledger.fold()
            // It waits for the first key, after it has drawn an id for it and before it draws one for the second.
            let first = Self.event(11, user)
            let holder = try await OpenTransaction.begin(ledger.pool) { connection in
                try connection.execute(
                    """
                    INSERT INTO metering.events
                    SELECT \(first.key.description)::uuid, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                           cached_tokens, reasoning_tokens, duration_ms, first_token_ms, billable_digest, quota_tokens,
                           quota_requests, is_stream, is_cache_hit, cost, shape, status, plan, provider, model_group
                    FROM metering.events LIMIT 1
                    """)
                try connection.execute("DELETE FROM metering.events WHERE event_key = \(first.key.description)::uuid")
            }
            let writing = Task { try await ledger.write([first, Self.event(12, user)]) }
            let waiting: Query = """
                SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted
                """
            #expect(try await ledger.number(waiting, becoming: 1, within: .seconds(20)) == 1)
            try await execute("DELETE FROM public.api_logs; SELECT setval('public.api_logs_id_seq', 1, false)", ledger)
            try await holder.end()
            let verdicts = try await writing.value
            #expect(verdicts.compactMap(\.?.logID).count == 2)
            #expect(try await ledger.number("SELECT count(*) FROM public.api_logs") == 2)
            #expect(
                try await details(ledger)
                    == Dictionary(
                        uniqueKeysWithValues: verdicts.compactMap(\.?.logID).map { ($0, "openai") }))
            try await expect(4, of: user, ledger, "in flight")
        }
    }

    @Test(arguments: [
        "CACHE 1", "MAXVALUE 9000000000", "OWNED BY public.api_logs.id", "RESTART WITH 100", "INCREMENT BY 1",
    ])
    func aSequenceThatGoesOnBeginsNoEpoch(change: String) async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([Self.event(1, user)])
            try await ledger.writeAsLaravel(user)
            try await ledger.fold()
            // Rows that no pass has seen.
            try await ledger.writeAsLaravel(user)
            _ = try await ledger.write([Self.event(2, user)])
            try await execute("ALTER SEQUENCE public.api_logs_id_seq \(change)", ledger)
            _ = try await ledger.write([Self.event(3, user)])
            try await ledger.writeAsLaravel(user)
            try await expect(6, of: user, ledger, "\(change)")
            #expect(try await ledger.number("SELECT count(*) FROM metering.id_epochs") == 1)
        }
    }

    /// The sequence stood below what was known although nothing was given out twice, as after a restore without it.
    @Test(arguments: [false, true]) func anEpochForNothingChangesNoFigure(isFolded: Bool) async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([Self.event(1, user), Self.event(2, user)])
            for _ in 0..<2 { try await ledger.writeAsLaravel(user) }
            if isFolded { try await ledger.fold() }
            _ = try await ledger.write([Self.event(3, user)])
            try await execute("SELECT setval('public.api_logs_id_seq', 2)", ledger)
            #expect(try await requests(ledger, user) == 5)
            #expect(try await ledger.number("SELECT count(*) FROM metering.id_epochs") == 2)
            try await execute("SELECT setval('public.api_logs_id_seq', (SELECT max(id) FROM public.api_logs))", ledger)
            _ = try await ledger.write([Self.event(4, user)])
            try await ledger.writeAsLaravel(user)
            try await expect(7, of: user, ledger, "for nothing")
            #expect(try await details(ledger).values.filter { $0 == "openai" }.count == 4)
        }
    }

    @Test func sumsOfRemovedRowsStayAndEventsAreStillProved() async throws {
        try await Ledger.with { ledger in
            let (ada, bob) = (try await ledger.makeUser(), try await ledger.makeUser())
            _ = try await ledger.write([Self.event(1, ada), Self.event(2, bob)])
            try await ledger.writeAsLaravel(ada)
            try await ledger.fold()
            try await ledger.settleCounters()
            try await execute(Restart.truncate.rawValue, ledger)
            try await ledger.fold()
            #expect(try await findings(ledger) == [])
            // An event's cell and counter that are wrong are found and repaired as ever.
            try await ledger.execute("UPDATE metering.usage_quarters SET requests = 7 WHERE user_id = \(bob)")
            try await ledger.execute("UPDATE metering.quota_usage SET requests = 7 WHERE user_id = \(bob)")
            #expect(try await findings(ledger).count == 4)
            _ = try await mend(ledger)
            try await expect(2, of: ada, ledger, "Ada")
            try await expect(1, of: bob, ledger, "Bob")
        }
    }

    @Test func nothingIsSealedWhereOnlyEventsWereRemoved() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([Self.event(1, user)])
            try await ledger.fold()
            try await execute(Restart.truncate.rawValue, ledger)
            try await expect(1, of: user, ledger, "events")
            #expect(try await ledger.text("SELECT logs_sealed_before::text FROM metering.usage_cursor") == "-infinity")
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
        try await Ledger.with { ledger in
            for _ in 0..<2 { try await ledger.makeUser() }
            _ = try await ledger.write([Self.event(1, 1)])
            func ofProvider() async throws -> Int {
                try await ledger.admin.withConnection { connection in
                    var filter = LogFilter()
                    filter.providers = ["openai"]
                    return try LogList.read(filter, by: .time, limit: 10, connection).rows.count
                }
            }
            try await ledger.execute(
                "UPDATE public.api_logs SET total_cost = 9, response_time_ms = 7, updated_at = now()")
            #expect(try await details(ledger) == [1: "openai"])
            #expect(try await ofProvider() == 1)
            try await execute(change, ledger)
            #expect(try await details(ledger) == [1: "-"])
            #expect(try await ofProvider() == 0)
        }
    }

    @Test func rowsWithIdsOfTheirOwn() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            func insert(_ id: Int64, at time: String) async throws {
                try await ledger.execute(
                    """
                    INSERT INTO public.api_logs (id, user_id, model, input_tokens, output_tokens, total_cost,
                                                 response_time_ms, created_at)
                    VALUES (\(id), \(user), 'gpt-4', 1, 1, 0.5, 1, \(time)::timestamp)
                    """)
            }
            for _ in 0..<3 { try await ledger.writeAsLaravel(user) }
            _ = try await ledger.write([Self.event(1, user)])
            try await ledger.fold()
            // Ahead of the sequence, by a little and by as much as there is.
            try await insert(6, at: "2026-11-23 10:00:00")
            try await insert(.max, at: "2026-11-23 10:30:00")
            #expect(try await requests(ledger, user) == 6)
            _ = try await ledger.write([Self.event(2, user)])
            try await expect(7, of: user, ledger, "ahead")
            // Under an id that is free again: readers and passes are past it, and `rebuild` is not.
            try await ledger.execute("DELETE FROM public.api_logs WHERE id = 2")
            try await insert(2, at: "2026-11-21 10:00:00")
            try await ledger.fold()
            #expect(try await findings(ledger).contains { $0.contains("2026-11-21T10:00:00Z") })
            #expect(try await mend(ledger)[0] > 0)
            try await expect(7, of: user, ledger, "under a free id")
            // Nothing overflows in a later epoch either.
            try await execute(
                """
                DELETE FROM public.api_logs WHERE id < 9000; SELECT setval('public.api_logs_id_seq', 1, false)
                """, ledger)
            let stored = try await ledger.write([Self.event(3, user)]).first.flatMap(\.?.logID)
            let count = try await requests(ledger, user)
            try await ledger.fold()
            #expect(try await requests(ledger, user) == count)
            #expect(try await details(ledger) == [try #require(stored): "openai", .max: "-"])
        }
    }

    /// A row that was inserted under the id of an event, whose own row is gone, is of no event when that is withdrawn.
    @Test(arguments: [false, true]) func aRowUnderTheIDOfAnEvent(isFolded: Bool) async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            let other = try await ledger.makeUser()
            let event = Self.event(1, user)
            let logID = try #require(try await ledger.write([event, Self.event(2, user)]).first.flatMap(\.?.logID))
            if isFolded { try await ledger.fold() }
            try await ledger.execute("DELETE FROM public.api_logs WHERE id = \(logID)")
            try await ledger.execute(
                """
                INSERT INTO public.api_logs (id, user_id, model, input_tokens, output_tokens, total_cost,
                                             response_time_ms, created_at)
                VALUES (\(logID), \(other), 'gpt-4', 1, 1, 0.5, 1, '2026-11-21 10:00:00')
                """)
            if isFolded { try await expect(0, of: other, ledger, "while it passes for the event's row") }
            #expect(try await requests(ledger, other) == 0)
            let now = ledger.clock.now
            let withdrawn = try await ledger.operator.transaction {
                try EventWithdrawal.withdraw(.key(event.key), reason: nil, $0, now: now)
            }
            #expect(!withdrawn.hadLog)
            #expect(try await requests(ledger, user) == 1)
            try await ledger.fold()
            if isFolded {
                #expect(try await findings(ledger).contains { $0.contains("2026-11-21T10:00:00Z") })
                #expect(try await mend(ledger)[0] > 0)
            }
            try await expect(1, of: other, ledger, "after the withdrawal")
            try await expect(1, of: user, ledger, "the event that is left")
        }
    }

    @Test func anEventIsWithdrawnAndNoOther() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            let (former, gone, new) = (
                Self.event(1, user, minutesAgo: 9), Self.event(2, user, minutesAgo: 9), Self.event(3, user)
            )
            _ = try await ledger.write([former, gone])
            try await ledger.fold()
            try await execute(Restart.truncate.rawValue, ledger)
            let now = ledger.clock.now
            func withdraw(_ subject: EventWithdrawal.Subject) async throws -> EventWithdrawal.Withdrawn {
                try await ledger.operator.transaction {
                    try EventWithdrawal.withdraw(subject, reason: nil, $0, now: now)
                }
            }
            await #expect(throws: AppError.self) { try await withdraw(.key(former.key)) }
            _ = try await ledger.worker.withConnection { try IDLine.look($0) }
            #expect(try await ledger.write([new]) == [.stored(logID: 1)])
            try await ledger.fold()
            // The row under its id is another call's, and stays.
            let first = try await withdraw(.key(former.key))
            #expect(first.logID == 1 && !first.hadLog && first.wasRolledUp)
            #expect(try await details(ledger) == [1: "openai"])
            // By the id of a row it is that row's event; by an id that no row has, the one that had it.
            let second = try await withdraw(.log(1))
            #expect(second.key == new.key && second.hadLog)
            #expect(try await withdraw(.log(2)).key == gone.key)
            #expect(try await ledger.write([former, gone, new]) == [1, 2, 1].map { .duplicate(logID: $0) })
            try await expect(0, of: user, ledger, "withdrawn")
            // The row of Laravel's under a former id is not that event's.
            _ = try await ledger.write([Self.event(4, user)])
            try await execute(Restart.truncate.rawValue, ledger)
            try await ledger.writeAsLaravel(user)
            try await ledger.fold()
            await #expect(throws: AppError.self) { try await withdraw(.log(1)) }
            try await expect(2, of: user, ledger, "kept")
        }
    }

    @Test func theDoctorReportsIt() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            func finding(after days: Int64 = 0) async throws -> Finding {
                try await ledger.operator.withConnection {
                    try IDLine.finding($0, now: .now.advanced(by: .seconds(days * 86_400)))
                }
            }
            #expect(try await finding().level == .ok)
            _ = try await ledger.write([Self.event(1, user)])
            try await ledger.writeAsLaravel(user)
            try await ledger.fold()
            try await execute(Restart.truncate.rawValue, ledger)
            let new = try await finding()
            #expect(new.level == .warning && new.remedy?.contains("aggregation-worker once") == true)
            try await ledger.fold()
            let handled = try await finding()
            #expect(handled.level == .warning && handled.message.contains("began again once at 20"))
            #expect(handled.remedy?.contains("does not prove") == true, "\(handled)")
            #expect(try await finding(after: 8).level == .ok)
            try await ledger.writeAsLaravel(user)
            try await ledger.fold()
            try await execute(Restart.truncate.rawValue, ledger)
            try await ledger.writeAsLaravel(user)
            try await ledger.fold()
            #expect(try await finding().message.contains("2 times"))
        }
    }

    @Test func otherTablesBeginAtTheFirstEpoch() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            _ = try await ledger.write([Self.event(1, user)])
            try await ledger.fold()
            try await execute(Restart.truncate.rawValue, ledger)
            _ = try await ledger.worker.withConnection { try IDLine.look($0) }
            _ = try await ledger.write([Self.event(2, user)])
            // The same rows in a table that was made again.
            try await execute(
                """
                UPDATE metering.installation SET api_logs_table = 1;
                UPDATE metering.id_epochs SET sequence_file = 1 WHERE epoch = 1
                """, ledger)
            func adopt(_ discards: Bool) async throws -> Installation.Adoption {
                try await ledger.owner.withConnection {
                    try Installation.adopt($0, discardingHistory: discards, now: Ledger.noon)
                }
            }
            #expect(try await adopt(false) == .sameIDs)
            try await expect(2, of: user, ledger, "the same")
            #expect(try await details(ledger) == [1: "openai"])
            try await execute("UPDATE metering.installation SET api_logs_table = 1", ledger)
            #expect(try await adopt(true) == .discardedHistory)
            #expect(try await ledger.number("SELECT count(*) FROM metering.id_epochs") == 1)
            _ = try await ledger.write([Self.event(3, user)])
            try await expect(2, of: user, ledger, "others")
        }
    }

    @Test func oldLogsAreDeletedByTheirPlaceOnTheLine() async throws {
        try await Ledger.with { ledger in
            let user = try await ledger.makeUser()
            for _ in 0..<2 { try await ledger.writeAsLaravel(user, at: "2026-01-01 00:00:00") }
            try await ledger.fold()
            try await execute(Restart.truncate.rawValue, ledger)
            for _ in 0..<3 { try await ledger.writeAsLaravel(user, at: "2026-01-02 00:00:00") }
            let now = ledger.clock.now
            func retain() async throws -> Int {
                try await LogRetention(pool: ledger.owner).run(days: 30, now: now) { _, _ in }
            }
            // They are in no sums yet.
            _ = try await ledger.worker.withConnection { try IDLine.look($0) }
            #expect(try await retain() == 0)
            try await ledger.fold()
            #expect(try await retain() == 3)
            #expect(try await ledger.requests(of: user) == 5)
        }
    }
}
