import Analytics
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Storage

/// Routes of administrators for the usage of all users, the state and integrity of the rollups, missing events, and the
/// audit log.
struct AdminIntegrityController: Sendable {
    let database: Database

    /// Days of one integrity check. The worker checks longer ranges.
    private static let maximumDays = 31

    private struct Totals: Sendable {
        let overview: UsageOverview
        let asOf: Timestamp
    }

    private struct Spool: Sendable {
        let status: SpoolStatus
        let now: Timestamp
    }

    private static let totals = JSONType<Totals>.object(
        "Totals",
        [
            Field("users", .list(userCount), \.overview.users),
            Field("today", Usage.json) { Usage($0.overview.today) },
            Field("month", Usage.json) { Usage($0.overview.month) }, Field("as_of", .time, \.asOf),
        ])

    private static let userCount = JSONType<UsageOverview.Users>.object(
        "UserCount",
        [
            Field("plan", .string, example: "pro", \.plan), Field("status", .string, example: "active", \.status),
            Field("count", .integer, example: 12, \.count),
        ])

    private static let rollupStatus = JSONType<RollupStatus>.object(
        "RollupStatus",
        [
            Field("folded_events_id", .integer, \.state.eventWatermark),
            Field("folded_others_id", .integer, \.state.laravelWatermark),
            Field("final_id", .integer, \.state.commitHorizon),
            Field("rows_behind", .integer, example: 0, \.pendingLogs),
            Field("seconds_behind", .integer, example: 0) { $0.pendingSeconds ?? 0 },
            Field("waiting_for", .list(.string)) { $0.waitingFor.map(\.description) },
        ])

    private static let verification = JSONType<RollupVerification.Report>.object(
        "Verification", [Field("differences", .integer, \.count), Field("findings", .list(finding), \.findings)])

    private static let finding = JSONType<RollupVerification.Finding>.object(
        "VerificationFinding",
        [
            Field("level", .string, example: "day", \.level), Field("user_id", .integer, \.user),
            Field("bucket", .string, example: "2026-11-23", \.bucket), Field("dimension", .string, \.dimension),
            Field("difference", .string, \.difference),
        ])

    private static let auditEntry = JSONType<AuditLog.Entry>.object(
        "AuditEntry",
        [
            Field("id", .integer, \.id), Field("at", .time, \.at), Field("actor_id", .integer, \.actor.userID),
            Field("address", .string, example: "192.0.2.1", \.actor.address),
            Field("action", .string, example: "user.update", \.action),
            Field("subject", .string, example: "user", \.subject),
            Field("subject_id", .string, example: "7", \.subjectID),
            Field("before", .anything) { state($0.before) }, Field("after", .anything) { state($0.after) },
        ])

    private static func state(_ text: String?) -> JSON {
        text.flatMap { JSON(parsing: Array($0.utf8)) } ?? .null
    }

    private static let spool = JSONType<Spool>.object(
        "Spool",
        [
            Field("spool", .string, example: "019ab1c2-5f10-4000-8000-000000000001", \.status.spool),
            Field("highest", .integer, \.status.highest), Field("seen_at", .time, \.status.seenAt),
            Field("lost", .integer, example: 0, \.status.lost), Field("missing", .integer, \.status.missingEvents),
            Field("missing_since", .nullable(.time), \.status.missingSince),
            Field("missing_seconds", .nullable(.integer)) { spool in
                spool.status.missingSince.map { max(0, (spool.now.microseconds - $0.microseconds) / 1_000_000) }
            }, Field("missing_ranges", .integer, \.status.rangeCount),
            Field("ranges", .list(missingRange), \.status.ranges),
        ])

    private static let missingRange = JSONType<ClosedRange<Int64>>.object(
        "MissingRange", [Field("first", .integer, \.lowerBound), Field("last", .integer, \.upperBound)])

    var getTotals: Operation {
        Operation(
            "Users by plan and status, and the usage of all users today and this month, in UTC.", returns: Self.totals
        ) {
            request in
            try await database.read { connection in
                try ReportSnapshot.take(connection) {
                    Totals(overview: try UsageOverview.read(now: request.now, on: $0), asOf: $0.asOf)
                }
            }
        }
    }

    var getRollupStatus: Operation {
        Operation("How far the rollups are. Reports include pending logs all the same.", returns: Self.rollupStatus) {
            request in
            try await database.read { try RollupStatus.read(now: request.now, on: $0) }
        }
    }

    var verifyRollups: Operation {
        Operation(
            "Compare logs, rollups and counters of some UTC days; at most \(Self.maximumDays) days.",
            [
                .query("from", .date, "The first day."),
                .query("to", .date, "The end, not included.", example: "2026-11-24"),
                .query("user_id", .integer(1...Int.max), "Only this user."),
            ], returns: Self.verification
        ) { request in
            guard let from = request.date("from"), let to = request.date("to"), from.daysSince1970 < to.daysSince1970,
                to.daysSince1970 - from.daysSince1970 <= Self.maximumDays
            else {
                throw AppError(
                    .invalid,
                    "Name from and a later to, at most \(Self.maximumDays) days. "
                        + "'aggregation-worker verify' takes more."
                )
            }
            let range = RollupRange(
                from: Int(from.daysSince1970), to: Int(to.daysSince1970),
                user: request.integer("user_id").map(Int64.init))
            return try await database.read { try RollupVerification.verify(range, $0) }
        }
    }

    var listAuditLog: Operation {
        Operation(
            "Changes by administrators, newest first.",
            [
                .query("actor_id", .integer(1...Int.max), "Only by this administrator."),
                .query("subject", .text(64), "Only this kind of subject.", example: "user"),
                .query("subject_id", .text(255), "Only this subject.", example: "7"),
                .query("from", .moment, "The first moment."),
                .query("to", .moment, "The end, not included.", example: "2026-11-24T00:00:00Z"),
            ] + Parameter.page, returns: .page("AuditPage", of: Self.auditEntry)
        ) { request in
            let cursor = try request.idCursor()
            let entries = try await database.read { connection in
                let (from, to) = try Period.bounds(of: request, .utc, connection)
                let filter = AuditLog.Filter(
                    actorID: request.integer("actor_id").map(Int64.init), subject: request.text("subject"),
                    subjectID: request.text("subject_id"), from: from, to: to)
                return try AuditLog.list(filter, before: cursor, limit: request.limit + 1, connection)
            }
            return Page(entries, limit: request.limit) { ["\($0.id)"] }
        }
    }

    var listSpools: Operation {
        Operation(
            "The spools of LiteLLM's proxies, the numbers of missing events, and since when they are missing.",
            [.query("missing", .flag, "Only spools with missing events.")] + Parameter.page,
            returns: .page("SpoolPage", of: Self.spool)
        ) { request in
            let cursor = try request.cursor(count: 1)?[0]
            guard cursor == nil || cursor.flatMap(UUID.init(uuidString:)) != nil else { throw Cursor.invalid }
            let spools = try await database.read {
                try SpoolStatus.list(onlyMissing: request.flag("missing"), after: cursor, limit: request.limit + 1, $0)
            }
            return Page(spools.map { Spool(status: $0, now: request.now) }, limit: request.limit) { [$0.status.spool] }
        }
    }
}
