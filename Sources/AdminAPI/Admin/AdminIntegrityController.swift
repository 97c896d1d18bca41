import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/v1/admin/totals`, `…/ledger` and `…/audit-log`: what everybody used, whether the books balance, and who changed what.
struct AdminIntegrityController: Sendable {
    let database: Database

    /// Days of one proof: longer ones are the worker's.
    private static let provedDays = 31

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/admin/totals", .admin,
                "Users by plan and status; everybody's usage today and this month, UTC.",
                answers: Schema.object([
                    "users": Schema.list(
                        Schema.object(["plan": Schema.string, "status": Schema.string, "count": Schema.integer])),
                    "today": Schema.sums, "month": Schema.sums, "as_of": Schema.time,
                ]), totals),
            Endpoint(
                .get, "/api/v1/admin/ledger/status", .admin, "How far the sums are; answers are current all the same.",
                answers: Schema.object([
                    "folded_events_id": Schema.integer, "folded_others_id": Schema.integer, "final_id": Schema.integer,
                    "rows_behind": Schema.integer, "seconds_behind": Schema.integer,
                    "waiting_for": Schema.list(Schema.string),
                ]), status),
            Endpoint(
                .get, "/api/v1/admin/ledger/verify", .admin,
                "Prove that rows, sums and counters of some UTC days say the same; at most \(Self.provedDays) days.",
                [
                    .query("from", .date, "The first day."), .query("to", .date, "The day behind the last."),
                    .query("user_id", .integer(1...Int.max), "Of this user."),
                ],
                answers: Schema.object(["differences": Schema.integer, "findings": Schema.list(Schema.finding)]), verify
            ),
            Endpoint(
                .get, "/api/v1/admin/audit-log", .admin, "Changes by administrators, newest first.",
                [
                    .query("actor_id", .integer(1...Int.max), "By this administrator."),
                    .query("subject", .text(64), "Of this kind of thing, such as user."),
                    .query("subject_id", .text(255), "Of this thing."),
                    .query("from", .moment, "The first moment."),
                    .query("to", .moment, "The first moment behind the last."),
                ] + Parameter.page,
                answers: Schema.page(of: Schema.auditEntry), auditLog),
        ]
    }

    @Sendable private func totals(_ request: APIRequest) async throws -> APIResponse {
        let (overview, asOf) = try await database.read { connection in
            try UsageSnapshot.take(connection) { (try UsageOverview(now: request.now, $0), $0.asOf) }
        }
        return .json([
            "users": .array(
                overview.users.map {
                    ["plan": .string($0.plan), "status": .string($0.status), "count": .integer($0.count)]
                }), "today": overview.today.json(UsageLatency()), "month": overview.month.json(UsageLatency()),
            "as_of": .string(asOf.rfc3339),
        ])
    }

    @Sendable private func status(_ request: APIRequest) async throws -> APIResponse {
        let status = try await database.read { try RollupStatus(.read($0), $0, now: request.now) }
        return .json([
            "folded_events_id": .integer(status.cursor.events), "folded_others_id": .integer(status.cursor.others),
            "final_id": .integer(status.cursor.settled), "rows_behind": .integer(status.rowsBehind),
            "seconds_behind": .integer(status.secondsBehind ?? 0),
            "waiting_for": .array(status.waitingFor.map { .string("\($0)") }),
        ])
    }

    @Sendable private func verify(_ request: APIRequest) async throws -> APIResponse {
        guard let from = request.date("from"), let to = request.date("to"), from.daysSince1970 < to.daysSince1970,
            to.daysSince1970 - from.daysSince1970 <= Self.provedDays
        else {
            throw AppError(
                .invalid,
                "Name from and a later to, at most \(Self.provedDays) days; 'aggregation-worker verify' proves more.")
        }
        let range = UsageRange(
            from: Int(from.daysSince1970), to: Int(to.daysSince1970), user: request.integer("user_id").map(Int64.init))
        let report = try await database.read { try UsageVerification.verify(range, $0) }
        return .json([
            "differences": .integer(report.count),
            "findings": .array(
                report.findings.map { finding in
                    [
                        "level": .string(finding.level), "user_id": .integer(finding.user),
                        "bucket": .string(finding.bucket), "dimension": .string(finding.dimension),
                        "difference": .string(finding.difference),
                    ]
                }),
        ])
    }

    @Sendable private func auditLog(_ request: APIRequest) async throws -> APIResponse {
        let cursor = try request.idCursor()
        let entries = try await database.read { connection in
            let filter = AuditLog.Filter(
                actorID: request.integer("actor_id").map(Int64.init), subject: request.text("subject"),
                subjectID: request.text("subject_id"), from: try Period.moment("from", of: request, .utc, connection),
                to: try Period.moment("to", of: request, .utc, connection))
            return try AuditLog.list(filter, before: cursor, limit: request.limit + 1, connection)
        }
        let page = entries.prefix(request.limit)
        return .page(page.map(\.json), next: entries.count > page.count ? page.last.map { ["\($0.id)"] } : nil)
    }
}

extension AuditLog.Entry {
    fileprivate var json: JSON {
        let state = { (text: String?) in text.flatMap { JSON(parsing: Array($0.utf8)) } ?? .null }
        return [
            "id": .integer(id), "at": .string(at.rfc3339), "actor_id": .integer(actor.userID),
            "address": .string(actor.address), "action": .string(action), "subject": .string(subject),
            "subject_id": .string(subjectID), "before": state(before), "after": state(after),
        ]
    }
}

extension Schema {
    fileprivate static let finding = object([
        "level": string, "user_id": integer, "bucket": string, "dimension": string, "difference": string,
    ])
    fileprivate static let auditEntry = object([
        "id": integer, "at": time, "actor_id": integer, "address": string, "action": string, "subject": string,
        "subject_id": string, "before": anything, "after": anything,
    ])
}

/// `/api/v1/admin/ledger/spools`: which events the proxies sent and nobody stored.
struct AdminSpoolController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/admin/ledger/spools", .admin,
                "The spools of LiteLLM's proxies, the numbers of events that are missing, and since when.",
                [.query("missing", .flag, "Only spools that lack something.")] + Parameter.page,
                answers: Schema.page(of: Schema.spool), list)
        ]
    }

    @Sendable private func list(_ request: APIRequest) async throws -> APIResponse {
        let cursor = try request.cursor(count: 1)?[0]
        guard cursor == nil || cursor.flatMap(UUID.init(uuidString:)) != nil else { throw Cursor.invalid }
        let spools = try await database.read {
            try SpoolStatus.list(onlyMissing: request.flag("missing"), after: cursor, limit: request.limit + 1, $0)
        }
        let page = spools.prefix(request.limit)
        return .page(
            page.map { $0.json(at: request.now) }, next: spools.count > page.count ? page.last.map { [$0.spool] } : nil)
    }
}

extension SpoolStatus {
    fileprivate func json(at now: Timestamp) -> JSON {
        [
            "spool": .string(spool), "highest": .integer(highest), "seen_at": .string(seenAt.rfc3339),
            "lost": .integer(lost), "missing": .integer(missingEvents),
            "missing_since": missingSince.json,
            "missing_seconds": missingSince.map {
                .integer(max(0, (now.microseconds - $0.microseconds) / 1_000_000))
            } ?? .null,
            "missing_ranges": .integer(rangeCount),
            "ranges": .array(
                ranges.map { ["first": .integer($0.lowerBound), "last": .integer($0.upperBound)] }),
        ]
    }
}

extension Schema {
    fileprivate static let spool = object([
        "spool": string, "highest": integer, "seen_at": time, "lost": integer, "missing": integer,
        "missing_since": optional(time), "missing_seconds": optional(integer), "missing_ranges": integer,
        "ranges": list(object(["first": integer, "last": integer])),
    ])
}
