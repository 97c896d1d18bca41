import Analytics
import Domain
import HTTPSupport
import Storage

/// The customer's overview: what is left of the limits, the month against the month before, and the last calls.
struct OverviewPage: Sendable {
    let database: Database

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        let (user, reader) = (try request.user, request.reader)
        let values = try await database.read { connection in
            let periods = try PagePeriods(reader, connection)
            return try ReportSnapshot.take(connection) { snapshot in
                let scope = UsageScope(user: user.id)
                let month = try UsageSummary.read(
                    scope, periods.month, comparedWith: periods.monthBefore, on: snapshot)
                let limits = try LimitStatus.read(user.id, connection, now: reader.now)
                return JSON.object([
                    "as_of": .string(snapshot.asOf.rfc3339),
                    "month": AnalyticsController.summary.json(
                        .init(current: month.current, compared: month.previous, meta: .init(asOf: snapshot.asOf))),
                    "limits": LimitWindows.json.json(LimitWindows(limits: limits, now: reader.now)),
                ])
            }
        }
        return .page("overview", values)
    }
}
