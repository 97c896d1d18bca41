import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

/// `codexflow quarantine`, as a process of its own.
@Suite(.timeLimit(.minutes(30))) struct QuarantineCommandTests {
    private func quarantine(
        _ arguments: [String], on database: TestDatabase
    ) async throws -> (exitCode: Int32, output: String) {
        let process = try ServiceProcess.start(
            product: "codexflow", arguments: ["quarantine"] + arguments,
            environment: ["DATABASE_URL": database.url(as: .operator), "MIGRATIONS_PATH": Checkout.migrations])
        let exitCode = try await process.waitForExit()
        return (exitCode, process.output)
    }

    /// Three events of an unknown key, one of them without an idempotency key and answered 404, and one with an absurd
    /// cost.
    private func fill(_ database: TestDatabase) async throws -> [UsageEvent] {
        let writer = EventWriter(pool: database.pool, now: { UsageEvent.sampleTime })
        var events = (1...4).map { UsageEvent.sample($0, by: .hash(of: "cf_late"), at: UsageEvent.sampleTime) }
        events[2].isIdempotent = false
        let costly = Rejection(reason: .implausibleCost, detail: "too much", key: events[3].key, event: events[3])
        _ = try await writer.write(
            events[..<2].map { IngestItem(.success($0)) }
                + [IngestItem(.success(events[2]), isRefusedWhenUnknown: true), IngestItem(.failure(costly))],
            lockedUsers: .quarantine)
        return events
    }

    @Test func entriesAreListedShownAndCounted() async throws {
        try await withTestDatabase { database in
            let events = try await fill(database)
            let list = try await quarantine(["list"], on: database)
            #expect(list.exitCode == 0)
            #expect(list.output.split(separator: "\n").count == 5)
            let hash = KeyHash(of: "cf_late").hex
            let narrow = try await quarantine(
                [
                    "list", "--reason", "unknown_key", "--key-hash", String(hash.prefix(6)), "--from", "2026-11-23",
                    "--json",
                ],
                on: database)
            let lines = narrow.output.split(separator: "\n")
            #expect(lines.count == 3)
            let first = try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any]
            #expect(first?["id"] as? String == events[0].key.description)
            #expect(first?["received_at"] as? String == "2026-11-23T12:00:00.000Z")
            #expect((first?["event"] as? [String: Any])?["cost"] as? String == "0.0015")

            let page = try await quarantine(["list", "--limit", "2"], on: database)
            #expect(page.output.contains("more: --after \(events[1].key)"))
            let rest = try await quarantine(["list", "--after", events[1].key.description], on: database)
            #expect(rest.output.split(separator: "\n").count == 3)
            let counts = try await quarantine(["list", "--count"], on: database)
            #expect(
                counts.output.split(separator: "\n")[1].split(separator: " ").prefix(3) == ["unknown_key", "3", "3"])

            let shown = try await quarantine(["show", events[2].key.description], on: database)
            #expect(shown.exitCode == 0)
            for words in ["No user holds this key", "what to do", "--answered-404", hash, "100 in, 50 out"] {
                #expect(shown.output.contains(words), "\(shown.output)")
            }
            let nothing = try await quarantine(["show", UUID().uuidString], on: database)
            #expect(nothing.exitCode == 1)
            #expect(nothing.output.hasPrefix("codexflow: There is no quarantine entry"))
        }
    }

    @Test func aReplayReportsTheRemainingEntries() async throws {
        try await withTestDatabase { database in
            let events = try await fill(database)
            let vain = try await quarantine(["replay", events[0].key.description], on: database)
            #expect(vain.exitCode == 1)
            #expect(vain.output.contains("No user holds this key"))
            try await database.execute(
                "INSERT INTO users (name, email, password, api_key) VALUES ('A', 'a', 'x', 'cf_late')")

            let dry = try await quarantine(["replay", "--dry-run"], on: database)
            #expect(dry.exitCode == 1)
            for words in ["nothing was changed", "stored 2", "answered_404 1", "implausible_cost 1"] {
                #expect(dry.output.contains(words), "\(dry.output)")
            }
            #expect(try await database.number("SELECT count(*) FROM api_logs") == 0)

            let named = try await quarantine(
                ["replay", events[0].key.description, events[1].key.description], on: database)
            #expect(named == (0, "stored 2\n"))
            let forced = try await quarantine(["replay", "--reason", "unknown_key", "--answered-404"], on: database)
            #expect(forced == (0, "stored 1\n"))
            let again = try await quarantine(["replay", events[0].key.description], on: database)
            #expect(again.exitCode == 1)
            #expect(again.output.contains("It is stored already."))
            #expect(try await database.number("SELECT count(*) FROM api_logs") == 3)
        }
    }

    @Test func onlyNamedEntriesAreDiscarded() async throws {
        try await withTestDatabase { database in
            let events = try await fill(database)
            let unarmed = try await quarantine(["discard"], on: database)
            #expect(unarmed.exitCode == 64)
            #expect(unarmed.output.contains("--all-open"))
            let dry = try await quarantine(["discard", "--reason", "unknown_key", "--dry-run"], on: database)
            #expect(dry == (0, "would discard 3\n"))
            let one = try await quarantine(["discard", events[0].key.description], on: database)
            #expect(one == (0, "discarded 1\n"))
            let twice = try await quarantine(["discard", events[0].key.description], on: database)
            #expect(twice.exitCode == 1)
            #expect(try await quarantine(["discard", "--all-open"], on: database) == (0, "discarded 3\n"))
            let resolved = try await quarantine(["list", "--resolved", "--json"], on: database)
            #expect(resolved.output.split(separator: "\n").count == 4)
        }
    }

    @Test(arguments: [
        ["list", "--limit", "0"], ["list", "--reason", "nonsense"], ["list", "--from", "yesterday"],
        ["list", "--key-hash", "xyz"], ["show"], ["replay", "17"], ["discard", "--all-open", "--user", "1"],
    ])
    func unknownArgumentsAreRefused(_ arguments: [String]) async throws {
        let process = try ServiceProcess.start(
            product: "codexflow", arguments: ["quarantine"] + arguments, environment: [:])
        #expect(try await process.waitForExit() == 64)
    }
}
