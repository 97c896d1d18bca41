import Domain
import Postgres
import Storage
import TestSupport

@testable import Analytics

extension ReportStatement {
    /// Every report's statement, with the parameters that change its text.
    static let all: [ReportStatement] =
        lookups + usage + breakdowns + rankings + events + laravel + live

    /// 2026-11-23T12:00:00Z. Days are rolled up to an hour before.
    private static let now = UsageEvent.sampleTime
    private static let state = ReportState(
        rollups: RollupState(
            eventWatermark: 20_000, laravelWatermark: 19_000, commitHorizon: 20_000,
            dayBoundary: QuarterHour.holding(now) - QuarterHour.perHour, sealedBefore: 0, logsSealedBefore: 0,
            hasSpans: true),
        hasPendingLaravelLogs: false)
    private static let stateWithLaravelLogs = ReportState(rollups: state.rollups, hasPendingLaravelLogs: true)
    private static let stateWithStaleSpans: ReportState = {
        var stale = state
        stale.rollups.hasSpans = false
        return stale
    }()

    /// The last days in Istanbul, which begin at 21:00 UTC.
    private static let days = (0...3).map {
        QuarterHour.midnight(before: QuarterHour.holding(now)) - 12 - QuarterHour.perDay * (3 - $0)
    }
    private static let range = ReportRange(quarterHours: days[0]..<days[3], zone: .utc)
    private static let narrow = UsageScope(
        user: 7, models: ["gpt-4"], providers: ["openai"], statuses: [.success, .error], plans: ["pro"])
    private static let page = DecimalLiteral("1441").map { UsageBreakdown.PageEnd(weight: $0, key: "8") }

    private static let lookups = [
        ReportStatement(
            name: "report_snapshot", about: "The state that a report is read in: ReportSnapshot.swift.",
            query: ReportSnapshot.statement),
        ReportStatement(
            name: "buckets_by_hour", about: "Where local hours begin in UTC: ReportRange.swift, LocalTime.swift.",
            query: Granularity.hour.statement(range)),
        ReportStatement(
            name: "buckets_by_month", about: "Where local months begin in UTC: ReportRange.swift, LocalTime.swift.",
            query: Granularity.month.statement(range)),
        ReportStatement(
            name: "overview_users", about: "The users of the operator's overview: UsageSummary.swift.",
            query: UsageOverview.usersStatement),
    ]

    private static let usage = [
        ReportStatement(
            name: "summary_of_user", about: "A user's summary, with latency: UsageQuery.swift, ReportFragments.swift.",
            query: UsageQuery(scope: .user(7), boundaries: days, hasLatency: true).statement(state)),
        ReportStatement(
            name: "summary_with_laravel_logs",
            about: "The same, while logs of Laravel's own are pending: UsageQuery.swift, ReportFragments.swift.",
            query: UsageQuery(scope: .user(7), boundaries: days, hasLatency: true).statement(stateWithLaravelLogs)),
        ReportStatement(
            name: "summary_of_part",
            about: "A summary of some models, providers, statuses and plans: UsageQuery.swift, ReportFragments.swift.",
            query: UsageQuery(scope: narrow, boundaries: days, hasLatency: true).statement(stateWithLaravelLogs)),
        ReportStatement(
            name: "call_count",
            about: "A user's call count, and Laravel's statistics of today: UsageQuery.swift, ReportFragments.swift.",
            query: UsageQuery(scope: .user(7), boundaries: days).statement(state)),
        ReportStatement(
            name: "overview_usage", about: "The usage of all users: UsageQuery.swift, ReportFragments.swift.",
            query: UsageQuery(scope: .allUsers, boundaries: days).statement(state)),
        ReportStatement(
            name: "series_by_model",
            about: "A series of local days for each model: UsageQuery.swift, ReportFragments.swift.",
            query: UsageQuery(scope: .allUsers, boundaries: days, group: .model, limit: 10, hasLatency: true)
                .statement(state)),
    ]

    private static let breakdowns =
        [UsageGroup.provider, .status, .plan].map { (group: UsageGroup) in
            ReportStatement(
                name: "breakdown_by_\(group.rawValue)",
                about: "A breakdown by \(group.rawValue): UsageQuery.swift, ReportFragments.swift.",
                query: UsageQuery(
                    scope: .user(7), boundaries: range.boundaries, group: group, limit: 10, hasLatency: true
                ).statement(state))
        } + [
            ReportStatement(
                name: "breakdown_next_page",
                about: "The second page of a breakdown, ordered by tokens: UsageQuery.swift, ReportFragments.swift.",
                query: UsageQuery(
                    scope: .user(7), boundaries: range.boundaries, group: .model, ranking: .tokens, limit: 10,
                    previous: page
                ).statement(state)),
            ReportStatement(
                name: "breakdown_by_cost",
                about: "A breakdown ordered by cost: UsageQuery.swift, ReportFragments.swift.",
                query: UsageQuery(
                    scope: .allUsers, boundaries: range.boundaries, group: .user, ranking: .cost, limit: 10
                ).statement(state)),
            ReportStatement(
                name: "breakdown_of_ranked_users",
                about: "The users that user_ranking puts on a page: UsageQuery.swift, ReportFragments.swift.",
                query: UsageQuery(
                    scope: {
                        var scope = UsageScope.allUsers
                        scope.users = [7, 8, 9]
                        return scope
                    }(), boundaries: range.boundaries, group: .user, limit: 3, hasLatency: true
                ).statement(state)),
        ]

    private static let rankings =
        UsageRanking.allCases.map { ranking in
            ReportStatement(
                name: "user_ranking_by_\(ranking)",
                about: "The order of users by \(ranking): UserRanking.swift, ReportFragments.swift.",
                query: UserRankingStatement(
                    scope: .allUsers, range: range, previous: nil, limit: 10, ranking: ranking, state: state
                ).query)
        } + [
            ReportStatement(
                name: "user_ranking_next_page",
                about: "The second page of users, while spans are stale: UserRanking.swift, ReportFragments.swift.",
                query: UserRankingStatement(
                    scope: .allUsers, range: range, previous: page, limit: 10, ranking: .requests,
                    state: stateWithStaleSpans
                ).query),
            ReportStatement(
                name: "user_ranking_of_part",
                about: "The order of users by the cost of one model: UserRanking.swift, ReportFragments.swift.",
                query: UserRankingStatement(
                    scope: UsageScope(models: ["gpt-4"]), range: range, previous: nil, limit: 10, ranking: .cost,
                    state: state
                ).query),
        ]

    private static let runs = [
        LogMark.Gap(after: 20_000, through: 20_002), LogMark.Gap(after: 20_005, through: 20_006),
    ]
    private static let periods = LivePeriods(
        day: ReportRange(quarterHours: days[2]..<days[3], zone: .utc),
        month: ReportRange(quarterHours: days[0]..<days[3] + QuarterHour.perDay, zone: .utc))

    private static let live = [
        ReportStatement(
            name: "live_logs", about: "New logs in the gaps and after the top: LogTail.swift.",
            query: LogTail.statement(runs, of: nil, limit: 10_000)),
        ReportStatement(
            name: "live_logs_of_user", about: "The logs that a reader has missed: LogTail.swift.",
            query: LogTail.statement(runs, of: 7, limit: 1_001)),
        ReportStatement(
            name: "live_growth", about: "What new logs add: LiveUsage.swift.",
            query: LiveUsage.growthStatement(runs, of: [7, 8])),
        ReportStatement(
            name: "live_usage_of_users",
            about: "The usage of users today and in this month: LiveUsage.swift, ReportFragments.swift.",
            query: LiveUsage.statement([7, 8], periods, stateWithLaravelLogs)),
        ReportStatement(
            name: "live_usage_of_all",
            about: "The usage of all users today and in this month: LiveUsage.swift, ReportFragments.swift.",
            query: LiveUsage.statement(nil, periods, state)),
    ]

    private static let events = ([nil] + EventGroup.allCases).map { group in
        let query = UsageQuery(scope: narrow, boundaries: [], limit: 10)
        return ReportStatement(
            name: "events_by_\(group?.rawValue ?? "nothing")",
            about: group == nil
                ? "The total of a breakdown by tag: EventBreakdown.swift, UsageQuery.swift."
                : "A breakdown of events: EventBreakdown.swift, UsageQuery.swift.",
            query: query.statement(of: EventBreakdown.usage(of: narrow, range, by: group)))
    }

    private static let laravel = [
        ReportStatement(
            name: "laravel_chart", about: "Laravel's dashboard/usage: LaravelReports.swift, ReportFragments.swift.",
            query: LaravelChart.statement(LaravelDays(of: 7, now: now), state)),
        ReportStatement(
            name: "laravel_analytics",
            about: "Laravel's usage/analytics: LaravelReports.swift, ReportFragments.swift.",
            query: LaravelAnalytics.statement(
                LaravelDays(of: 7, now: now),
                firstOfMonth: QuarterHour.midnight(before: QuarterHour.holding(now)) - 22 * QuarterHour.perDay,
                state)),
        ReportStatement(
            name: "recent_calls", about: "A user's last logs: LaravelReports.swift.",
            query: RecentCalls.statement(of: 7, limit: 50)),
    ]
}
