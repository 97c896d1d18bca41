import Analytics
import Domain
import HTTPSupport
import Postgres
import Storage

/// The operator's overview: what all users cost, who is near a limit, what costs most, and how complete that is.
struct OperatorOverviewPage: Sendable {
    let database: Database
    private let reads = SharedReads<PageQuestion, JSON>()

    /// Rows of each of the short lists.
    private static let listed = 10
    /// Models that have a colour of their own in the chart.
    private static let drawn = 6
    /// The lag of the rollups that nobody needs to look at, in seconds.
    private static let usualLag = 60

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        let reader = request.reader
        return .page("operator", try await reads.answer(to: PageQuestion(of: nil, reader)) { try await read(reader) })
    }

    /// What the database says to `reader` of all users.
    private func read(_ reader: Reader) async throws -> JSON {
        try await database.read { connection in
            let periods = try PagePeriods(reader, connection)
            let reports = try ReportSnapshot.take(connection) { try Self.reports(periods, $0) }
            let limits = try LimitPressure.list(limit: Self.listed, connection, now: reader.now)
            let truth = try Self.truth(connection, now: reader.now)
            return reports.merging([
                "limits": Self.json(limits), "truth": truth, "complete_through": truth["missing_since"] ?? .null,
            ])
        }
    }

    private static func reports(_ periods: PagePeriods, _ snapshot: ReportSnapshot) throws -> JSON {
        let today = try UsageSummary.read(
            .allUsers, periods.today, comparedWith: periods.dayBefore, on: snapshot)
        let month = try UsageSummary.read(
            .allUsers, periods.month, comparedWith: periods.monthBefore, on: snapshot)
        let users = try UsageBreakdown.read(
            .allUsers, periods.month, by: .user, limit: listed, rankedBy: .cost, on: snapshot)
        let models = try UsageBreakdown.read(
            .allUsers, periods.month, by: .model, limit: listed, rankedBy: .cost, on: snapshot)
        let days = try UsageSeries.read(
            .allUsers, periods.lastDays, every: .day, by: .model, limit: drawn, rankedBy: .cost, on: snapshot)
        let ids = users.groups.compactMap { $0.key.flatMap(Int64.init) }
        let names = try UserAccounts.names(of: ids, snapshot.connection)
        return [
            "as_of": .string(snapshot.asOf.rfc3339),
            "today": PageFigures.summary(today, asOf: snapshot.asOf),
            "month": PageFigures.summary(month, asOf: snapshot.asOf),
            "active_users": .integer(users.groups.count + (users.others?.groups ?? 0)),
            "top_users": .array(
                users.groups.map { user in
                    AnalyticsController.group.json(.init(user)).merging([
                        "name": (user.key.flatMap(Int64.init).flatMap { names[$0] }).json
                    ])
                }),
            "top_models": .array(models.groups.map { AnalyticsController.group.json(.init($0)) }),
            "series": PageFigures.days(days),
        ]
    }

    private static func json(_ list: LimitPressure.List) -> JSON {
        [
            "count": .integer(list.count), "exhausted": .integer(list.exhausted),
            "others": .integer(list.count - list.users.count),
            "users": .array(
                list.users.map { user in
                    [
                        "user_id": .integer(user.userID), "name": .string(user.name), "plan": .string(user.plan),
                        "period": .string(user.period.rawValue), "measure": .string(user.measure.rawValue),
                        "is_budget": .bool(user.measure == .budget), "used": .string(user.used),
                        "limit": .string(user.limit), "ratio": .number(user.ratio.jsonLiteral),
                        "is_over": .bool(user.ratio >= 1),
                    ]
                }),
        ]
    }

    private static func truth(_ connection: Connection, now: Timestamp) throws -> JSON {
        let rollups = try RollupStatus.read(now: now, on: connection)
        let ingest = try IngestStatus.read(connection)
        let lag = max(0, rollups.pendingSeconds ?? 0)
        return [
            "pending_logs": .integer(rollups.pendingLogs), "pending_seconds": .integer(lag),
            "is_late": .bool(lag > usualLag), "quarantined": .integer(ingest.quarantined),
            "is_cut": .bool(ingest.quarantined >= Quarantine.countedAtMost),
            "oldest_quarantined": ingest.oldestQuarantined.json, "missing_events": .integer(ingest.missingEvents),
            "missing_since": ingest.missingSince.json, "lost_events": .integer(ingest.lostEvents),
            "last_call_at": ingest.lastCallAt.json,
        ]
    }
}
