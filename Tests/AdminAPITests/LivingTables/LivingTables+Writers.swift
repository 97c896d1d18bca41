import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport

@testable import AdminAPI

/// What other programs do to the tables.
extension LivingTables {
    struct NewRow {
        var id: Int64?
        var token: LivingModel.Token
        var user: Int64
        /// What `created_at` is.
        var time: String?
        var cost: String
    }

    func newRow(id: Int64? = nil) -> NewRow {
        NewRow(
            id: id, token: nextToken(), user: user(), time: moment().sqlText,
            cost: "\(Int.random(in: -3...9_999, using: &random))e-6")
    }

    func insert(_ new: [NewRow]) async throws {
        let models = new.map { _ in ["gpt-4", "claude", "gemini"].randomElement(using: &random) ?? "gpt-4" }
        let statuses = new.map { _ in
            ["success", "success", "error", "rate_limited"].randomElement(using: &random) ?? "error"
        }
        let tokens = new.map { _ in Int64.random(in: 0...900, using: &random) }
        let outputTokens = new.map { _ in Int64.random(in: 0...400, using: &random) }
        for (index, row) in new.enumerated() {
            let id: Query = row.id.map { "\($0)::bigint" } ?? "nextval('public.api_logs_id_seq')"
            try await bench.execute(
                """
                INSERT INTO public.api_logs (id, user_id, model, input_tokens, output_tokens, total_cost,
                                             response_time_ms, status, error_message, created_at, updated_at)
                VALUES (\(id), \(row.user), \(models[index]), \(tokens[index]), \(outputTokens[index]),
                        \(row.cost)::numeric, \(row.token), \(statuses[index]), 'Boom \(unsafeSQL: String(row.token))',
                        \(row.time as String?)::timestamp, now())
                """)
        }
    }

    func insertAsLaravel() async throws {
        let count = isOneOf(6) ? 30 : Int.random(in: 1...4, using: &random)
        try await insert((0..<count).map { _ in newRow() })
    }

    func insertAbsurd() async throws {
        var row = newRow()
        switch Int.random(in: 0..<6, using: &random) {
        case 0: row.cost = "NaN"
        case 1: row.time = nil
        case 2: row.time = "infinity"
        case 3: row.time = "294276-12-31 23:59:59"
        case 4: row.time = "4714-11-24 00:00:00 BC"
        default: (row.time, row.cost) = ("-infinity", "NaN")
        }
        note("\(row.time ?? "NULL") \(row.cost)")
        try await insert([row])
    }

    /// Some rows, a tenth of them or a few.
    func someRows() async throws -> [LivingModel.Row] {
        let rows = try await rows()
        let (count, start) = (isOneOf(3) ? rows.count / 3 : min(rows.count, 3), Int.random(in: 0...99, using: &random))
        return (0..<count).map { rows[($0 + start * rows.count / 100) % rows.count] }
    }

    func touch(_ rows: [LivingModel.Row]) {
        for row in rows { model.events[row.token]?.isTouched = true }
    }

    func update() async throws {
        let rows = try await someRows()
        let change: Query =
            switch Int.random(in: 0..<3, using: &random) {
            case 0: "total_cost = 0.5, input_tokens = 7"
            case 1: "model = 'renamed'"
            default: "status = 'error', error_message = NULL, updated_at = now()"
            }
        try await bench.execute("UPDATE public.api_logs SET \(change) WHERE id = ANY(\(rows.map(\.id))::bigint[])")
        touch(rows)
    }

    func updateToNaN() async throws {
        let ids = try await someRows().prefix(2).map(\.id)
        try await bench.execute("UPDATE public.api_logs SET total_cost = 'NaN' WHERE id = ANY(\(ids)::bigint[])")
    }

    func correctTimes() async throws {
        let rows = try await someRows()
        let time: Query =
            switch Int.random(in: 0..<5, using: &random) {
            case 0: "NULL"
            case 1: "'infinity'"
            case 2: "created_at - interval '3 hours'"
            case 3: "created_at + interval '1 day'"
            default: "'2026-11-11 11:11:11'"
            }
        try await bench.execute(
            "UPDATE public.api_logs SET created_at = \(time) WHERE id = ANY(\(rows.map(\.id))::bigint[])")
        touch(rows)
    }

    func giveToAnother() async throws {
        let (rows, user) = (try await someRows(), user())
        try await bench.execute(
            "UPDATE public.api_logs SET user_id = \(user) WHERE id = ANY(\(rows.map(\.id))::bigint[])")
        touch(rows)
    }

    func delete() async throws {
        let ids = try await someRows().map(\.id)
        try await bench.execute("DELETE FROM public.api_logs WHERE id = ANY(\(ids)::bigint[])")
    }

    /// Rows with ids that are free: of no event, or of events whose rows somebody deleted.
    func importOldIDs(ofEvents: Bool) async throws {
        let rows = try await rows()
        guard let last = rows.last?.id, last > 1 else { return }
        let taken = Set(rows.map(\.id))
        let gone = Set(model.events.values.map(\.logID))
        let free = (1..<last).filter { !taken.contains($0) && gone.contains($0) == ofEvents }
        guard !free.isEmpty else { return }
        var new: [NewRow] = []
        for id in Set((0..<3).compactMap { _ in free.randomElement(using: &random) }).sorted() {
            var row = newRow(id: id)
            // It looks like the call whose id it has.
            if let twin = model.events.values.first(where: { $0.logID == id && users.contains($0.fact.user) }),
                isOneOf(2)
            {
                (row.user, row.time) = (twin.fact.user, twin.event.occurredAt.sqlText)
            }
            new.append(row)
        }
        try await insert(new)
        if ofEvents {
            for (token, event) in model.events where event.isLastOfItsID {
                for row in new where row.id == event.logID { model.shadowed[row.token] = token }
            }
        }
        let late = new.filter { ($0.id ?? 0) <= passedID && model.shadowed[$0.token] == nil }.map(\.token)
        model.imported.formUnion(late)
        guard !late.isEmpty, !isSealed else { return }
        try await verifyAndRebuild()
    }

    /// An import or a restore leaves the sequence at ids that are taken, until somebody notices.
    func leaveSequenceTooLow() async throws {
        let last = try await rows().last?.id ?? 0
        let value = try await bench.number("SELECT last_value FROM public.api_logs_id_seq")
        if isOneOf(2) {
            try await insert((1...2).map { newRow(id: max(last, Int64(value)) + $0) })
        } else {
            try await bench.execute("SELECT setval('public.api_logs_id_seq', \(max(1, last - 2)))")
        }
        awaitsPass = true
        isSealed = true
        model.countAgain(after: last - 2)
        try await ingest(Int.random(in: 1...3, using: &random), mayWait: true)
        try await bench.execute(
            """
            SELECT setval('public.api_logs_id_seq', greatest(max(id), (SELECT last_value FROM public.api_logs_id_seq)))
            FROM public.api_logs
            """)
        try await heal()
    }

    /// Deletes rows and inserts them again from a copy.
    func restore() async throws {
        let ids = try await someRows().map(\.id)
        try await script(
            """
            BEGIN;
            CREATE TEMPORARY TABLE copy ON COMMIT DROP AS
            SELECT * FROM public.api_logs WHERE id = ANY('{\(ids.map(String.init).joined(separator: ","))}');
            DELETE FROM public.api_logs WHERE id IN (SELECT id FROM copy);
            INSERT INTO public.api_logs SELECT * FROM copy;
            COMMIT;
            """)
    }

    /// Deletes the last rows and sets the sequence to the highest id that is left. So ids are given out again. A pass
    /// comes first, as the services look each second. When the sequence goes back, a row that was changed since the
    /// last look cannot always be distinguished from a new one (`docs/other-writers.md`).
    func deleteLastRows() async throws {
        try await pass(.everything)
        let rows = try await rows()
        let ids = rows.suffix(isOneOf(2) ? 3 : rows.count / 3).map(\.id)
        try await bench.execute("DELETE FROM public.api_logs WHERE id = ANY(\(ids)::bigint[])")
        try await bench.execute(
            "SELECT setval('public.api_logs_id_seq', coalesce(max(id), 1), max(id) IS NOT NULL) FROM public.api_logs")
        try await countAgain(after: rows.dropLast(ids.count).last?.id ?? 0)
    }

    /// Ids are given out again from `id` on. A report notices it; later, when all of them are given, nobody could.
    func countAgain(after id: Int64) async throws {
        awaitsPass = true
        isSealed = true
        passedID = min(passedID, id)
        model.countAgain(after: id)
        try await readOthers(of: users[0])
    }

    func loseIDs() async throws {
        let count = isOneOf(3) ? 5_000 : 10
        try await bench.execute("SELECT nextval('public.api_logs_id_seq') FROM generate_series(1, \(count))")
    }

    func truncate(restartsIdentity: Bool) async throws {
        try await bench.execute(
            restartsIdentity ? "TRUNCATE public.api_logs RESTART IDENTITY" : "TRUNCATE public.api_logs")
        isSealed = true
        awaitsPass = true
        if restartsIdentity {
            passedID = 0
            model.countAgain(after: 0)
        }
    }

    func deleteUser() async throws {
        let user = user()
        try await bench.execute("DELETE FROM public.users WHERE id = \(user)")
        users.removeAll { $0 == user }
        try await makeUser()
    }

    func rotateKey() async throws {
        let user = user()
        let key = "cf_key_of_\(user)_\(steps)"
        try await bench.execute("UPDATE public.users SET api_key = \(key) WHERE id = \(user)")
        keys[user] = key
    }

    func moveClock() async throws {
        let seconds = [1, 59, 900, 3_600, 86_400, -1, -1_800].randomElement(using: &random) ?? 1
        bench.clock.advance(by: .seconds(seconds))
    }

    /// A transaction stays open while others write and the worker passes.
    func writeSlowly() async throws {
        let (row, later) = (newRow(), Int.random(in: 1...3, using: &random))
        let transaction = try await OpenTransaction.begin(pool) { connection in
            _ = try connection.execute(
                """
                INSERT INTO public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                             status, created_at)
                VALUES (\(row.user), 'gpt-4', 5, 5, 0.25, \(row.token), 'success', \(row.time as String?)::timestamp)
                """)
        }
        try await ingest(later)
        await runPass(.everything)
        try await readAnything()
        try await transaction.end()
        try await readAnything()
        try await pass(.everything)
    }
}

extension Timestamp {
    /// As Laravel writes it: UTC, whole seconds.
    fileprivate var sqlText: String { laravelText.replacing("T", with: " ").prefix(19).description }
}
