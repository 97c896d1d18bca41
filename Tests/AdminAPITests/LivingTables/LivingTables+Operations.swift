import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport

@testable import AdminAPI

extension LivingTables {
    /// What can happen. A new kind of writer is one line here.
    static let operations: [Operation] = [
        Operation(24, "ingest") { try await $0.ingest() },
        Operation(3, "sent again") { try await $0.sendAgain() },
        Operation(2, "withdraw") { try await $0.withdraw() },
        Operation(14, "Laravel inserts") { try await $0.insertAsLaravel() },
        Operation(3, "absurd rows") { try await $0.insertAbsurd() },
        Operation(6, "update") { try await $0.update() },
        Operation(2, "costs become NaN") { try await $0.updateToNaN() },
        Operation(1, "huge event") { try await $0.ingestHuge() },
        Operation(5, "correct times") { try await $0.correctTimes() },
        Operation(5, "give to another user") { try await $0.giveToAnother() },
        Operation(7, "delete") { try await $0.delete() },
        Operation(3, "import old ids") { try await $0.importOldIDs(ofEvents: false) },
        Operation(3, "import ids of events") { try await $0.importOldIDs(ofEvents: true) },
        Operation(2, "sequence too low", seals: true) { try await $0.leaveSequenceTooLow() },
        Operation(2, "rows are removed by a trigger") { try await $0.ingest(under: .removal) },
        Operation(2, "ids are changed by a trigger") { try await $0.ingest(under: .otherID) },
        Operation(2, "restore rows") { try await $0.restore() },
        Operation(2, "delete the last rows and setval", seals: true) { try await $0.deleteLastRows() },
        Operation(2, "ids are lost") { try await $0.loseIDs() },
        Operation(1, "truncate", seals: true) { try await $0.truncate(restartsIdentity: false) },
        Operation(2, "truncate; restart identity", seals: true) { try await $0.truncate(restartsIdentity: true) },
        Operation(2, "delete a user") { try await $0.deleteUser() },
        Operation(3, "rotate a key") { try await $0.rotateKey() },
        Operation(4, "time passes") { try await $0.moveClock() },
        Operation(3, "slow writer") { try await $0.writeSlowly() },
        Operation(12, "pass") { try await $0.pass(.everything) },
        Operation(3, "pass over others") { try await $0.pass(.laravel) },
        Operation(5, "background jobs") { try await $0.runBackgroundJobs() },
        Operation(2, "verify and rebuild") { try await $0.verifyAndRebuild() },
    ]

    func user() -> Int64 { users.randomElement(using: &random) ?? 0 }

    func nextToken() -> LivingModel.Token {
        lastToken += 1
        return lastToken
    }

    /// Mostly now, sometimes weeks ago.
    func moment() -> Timestamp {
        let age = Int64.random(in: 0...(isOneOf(3) ? 86_400 * 40 : 5), using: &random)
        return now.advanced(by: .seconds(-age))
    }

    /// A pass while nobody else writes: all rows are rolled up.
    func pass(_ scope: RollupPass.Scope) async throws {
        await runPass(scope)
        model.rollUp(try await rows())
        passedID = Int64(
            try await bench.number("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.api_logs_id_seq"))
        awaitsPass = false
    }

    func runPass(_ scope: RollupPass.Scope) async {
        let (clock, window) = (bench.clock, Int.random(in: 3...60, using: &random))
        let pass = RollupPass(
            pool: database.pool(as: .worker), window: window, timeout: .milliseconds(10), now: { clock.now })
        let outcome = await attempt("pass") { try await pass.run(scope) }
        expect(outcome?.isBusy != true, "pass", "is busy alone")
    }

    /// Runs the background jobs that webhook-api runs each second (`BackgroundJobs`).
    func runBackgroundJobs() async throws {
        let now = now
        await attempt("background jobs") {
            try await database.pool(as: .webhook).withConnection { connection in
                _ = try QuotaCounters.addDeltas(connection, now: now)
                try RateLimitProjection.project(connection, .all, now: now)
                try KeyHistory.sync(connection, now: now)
                try Installation.require(connection)
                try Installation.recordHighestIDs(connection)
            }
        }
    }

    /// `verify` finds the users whose rows others changed after a pass, and `rebuild` repairs them.
    func verifyAndRebuild() async throws {
        try await pass(.everything)
        try await runBackgroundJobs()
        let rows = try await rows()
        let differing = model.differing(rows, users: users)
        guard let report = await verify() else { return }
        let found = Set(report.findings.map(\.user)).subtracting([0])
        let text = "found of \(found.sorted()) for \(differing.sorted()): \(report.findings.prefix(4))"
        guard !isSealed else {
            // Rows that were truncated stay in the rollups as history.
            expect(found.isSubset(of: differing), "verify after a seal", text)
            return
        }
        expect(found == differing, "verify", text)
        // The days of the story, and that of times which are none.
        for (from, to) in [(20_700, 20_800), (0, 1)] {
            await attempt("rebuild") {
                try await RollupRebuild(pool: database.pool(as: .worker)).repair(RollupRange(from: from, to: to)) {
                    _, _ in
                }
            }
        }
        model.rebuild(rows, users: users)
        let left = await verify()
        expect(left?.count == 0, "verify after rebuild", "\(left?.findings.prefix(6) ?? [])")
    }

    private func verify() async -> RollupVerification.Report? {
        await attempt("verify") {
            try await database.pool(as: .worker).withConnection { try RollupVerification.verify(RollupRange(), $0) }
        }
    }

    /// Everything is read once more, and proved.
    func end() async throws {
        note("end")
        try await verifyAndRebuild()
        for user in users { try await readEverything(of: user) }
        try await readEverything(of: nil)
    }
}
