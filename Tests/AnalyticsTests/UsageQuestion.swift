import Analytics
import Domain
import Postgres
import Storage
import TestSupport

/// A random question about usage. Every report answers it in one state of the database, and the model does.
struct UsageQuestion: CustomStringConvertible {
    /// A part of the usage.
    private enum Part: String, CaseIterable {
        case all, model, provider, status, plan

        func contains(_ log: UsageModel.Log) -> Bool {
            switch self {
            case .all: true
            case .model: log.model != "gpt-4"
            case .provider: log.provider == "openai"
            case .status: log.status != .success
            case .plan: log.plan == "pro"
            }
        }

        func narrow(_ scope: inout UsageScope) {
            switch self {
            case .all: break
            case .model: scope.models = ["claude", "gemini"]
            case .provider: scope.providers = ["openai"]
            case .status: scope.statuses = [.error, .rateLimited]
            case .plan: scope.plans = ["pro"]
            }
        }
    }

    /// 0 for all users.
    let user: Int64
    private let now: Timestamp
    private let part: Part
    private let start: Timestamp
    private let end: Timestamp
    private let zone: String
    private let granularity: Granularity
    private let group: UsageGroup
    private let eventGroup: EventGroup
    private let ranking: UsageRanking
    private let limit: Int

    private static let zones = ["UTC", "Europe/Istanbul", "Asia/Kolkata", "America/New_York", "Pacific/Chatham"]

    init(of user: Int64, now: Timestamp, _ random: inout SplitMix64) {
        (self.user, self.now) = (user, now)
        // Half of them are about all usage.
        part = Bool.random(using: &random) ? .all : Part.allCases.randomElement(using: &random) ?? .all
        end = now.advanced(by: .seconds(Int64.random(in: -86_400 * 10...86_400, using: &random)))
        start = end.advanced(by: .seconds(-Int64.random(in: 1_000...(86_400 * 35), using: &random)))
        zone = Self.zones.randomElement(using: &random) ?? "UTC"
        granularity = Granularity.allCases.randomElement(using: &random) ?? .day
        group = UsageGroup.allCases.randomElement(using: &random) ?? .model
        eventGroup = EventGroup.allCases.randomElement(using: &random) ?? .tag
        ranking = UsageRanking.allCases.randomElement(using: &random) ?? .requests
        limit = Int.random(in: 1...3, using: &random)
    }

    var description: String {
        "user \(user), \(part) from \(start.rfc3339) to \(end.rfc3339), \(granularity) of \(zone), by \(group) and "
            + "\(eventGroup), \(limit) by \(ranking)"
    }

    /// What the reports say.
    struct Answers: Sendable {
        let summary: UsageSummary
        let series: UsageSeries
        let grouped: UsageSeries
        let pages: [UsageBreakdown]
        let events: UsageBreakdown
        let calls: Int64
        let overview: UsageOverview
        let laravel: LaravelAnswers
    }

    /// What Laravel's routes say, which know no part and no range.
    struct LaravelAnswers: Sendable {
        let stats: LaravelStats
        let chart: LaravelChart
        let analytics: LaravelAnalytics
    }

    /// Asks all reports in one snapshot.
    func ask(_ connection: Connection) throws -> Answers {
        let range = try ReportRange(from: start, to: end, zone: TimeZoneName.require(zone, connection))
        var scope = UsageScope(user: user == 0 ? nil : user)
        part.narrow(&scope)
        return try ReportSnapshot.take(connection) { [scope] snapshot in
            try Answers(
                summary: UsageSummary.read(scope, range, on: snapshot),
                series: UsageSeries.read(scope, range, every: granularity, hasLatency: true, on: snapshot),
                grouped: UsageSeries.read(
                    scope, range, every: granularity, by: group == .user ? .model : group, limit: limit,
                    rankedBy: ranking, hasLatency: true, on: snapshot),
                pages: pages(scope, range, snapshot),
                events: EventBreakdown.read(
                    scope, range, by: eventGroup, limit: limit, rankedBy: ranking, on: snapshot),
                calls: CallCount.read(scope, range, on: snapshot).calls,
                overview: UsageOverview.read(now: now, on: snapshot),
                laravel: LaravelAnswers(
                    stats: LaravelStats.read(of: user, now: now, on: snapshot),
                    chart: LaravelChart.read(of: user, now: now, on: snapshot),
                    analytics: LaravelAnalytics.read(of: user, now: now, on: snapshot)))
        }
    }

    private func pages(
        _ scope: UsageScope, _ range: ReportRange, _ snapshot: ReportSnapshot
    ) throws -> [UsageBreakdown] {
        var (pages, place): ([UsageBreakdown], UsageBreakdown.PageEnd?) = ([], nil)
        repeat {
            let page = try UsageBreakdown.read(
                scope, range, by: group, after: place, limit: limit, rankedBy: ranking, hasLatency: true, on: snapshot)
            pages.append(page)
            place = page.pageEnd
        } while place != nil && pages.count < 200
        return pages
    }

    /// What the answers say other than `model`.
    func differences(of answers: Answers, from model: UsageModel) -> [String] {
        let logs = model.logs(of: user).filter(part.contains)
        let range = answers.summary.current.range
        let inRange = Self.logs(logs, in: range)
        let calls = answers.calls == Int64(inRange.count) ? [] : ["\(answers.calls) calls of \(inRange.count)"]
        return differences(of: answers.summary, logs) + calls
            + differences(of: answers.series, by: { _ in nil }, inRange)
            + differences(of: answers.grouped, by: { Self.key(group == .user ? .model : group, $0) }, inRange)
            + differences(of: answers.pages, inRange) + differences(ofEvents: answers.events, inRange)
            + differences(of: answers.overview, model) + laravelDifferences(of: answers.laravel, model)
    }
}

extension UsageQuestion {
    private static func logs(_ logs: [UsageModel.Log], in range: ReportRange) -> [UsageModel.Log] {
        logs.filter { $0.time >= range.from && $0.time < range.to }
    }

    private static func key(_ group: UsageGroup, _ log: UsageModel.Log) -> String? {
        switch group {
        case .model: log.model
        case .provider: log.provider
        case .status: log.status.rawValue
        case .plan: log.plan
        case .user: "\(log.user)"
        }
    }

    private static func keys(_ group: EventGroup, _ event: UsageEvent) -> Set<String?> {
        switch group {
        case .errorCode: [event.errorCode]
        case .endUser: [event.endUser]
        case .tag: event.tags.isEmpty ? [nil] : Set(event.tags)
        }
    }

    private typealias Group = (key: String?, logs: [UsageModel.Log])

    /// Groups of logs, the largest first; of equal ones by key, users by id, and the one without a key last.
    private func ranked(_ groups: [String?: [UsageModel.Log]]) -> [Group] {
        groups.map { (key: $0.key, logs: $0.value, weight: weight(of: $0.value)) }.sorted { left, right in
            if left.weight != right.weight { return left.weight > right.weight }
            guard let first = left.key, let second = right.key else { return left.key != nil }
            if let first = Int64(first), let second = Int64(second) { return first < second }
            return first < second
        }.map { (key: $0.key, logs: $0.logs) }
    }

    private func weight(of logs: [UsageModel.Log]) -> Int128 {
        switch ranking {
        case .requests: Int128(logs.count)
        case .tokens: Int128(UsageMeasures(logs).tokens)
        case .cost: UsageMeasures(logs).cost
        }
    }

    private func differences(of summary: UsageSummary, _ logs: [UsageModel.Log]) -> [String] {
        var differences: [String] = []
        for period in [summary.current, summary.previous].compactMap(\.self) {
            let measures = UsageMeasures(Self.logs(logs, in: period.range))
            differences += measures.differences(from: period.sums, period.latency)
        }
        return differences.map { "summary: \($0)" }
    }

    private func differences(
        of series: UsageSeries, by key: (UsageModel.Log) -> String?, _ logs: [UsageModel.Log]
    ) -> [String] {
        let groups = ranked(Dictionary(grouping: logs, by: key))
        var lines = groups.prefix(limit).map { (key: $0.key, isOthers: false, logs: $0.logs) }
        let others = groups.dropFirst(limit)
        if !others.isEmpty { lines.append((key: nil, isOthers: true, logs: others.flatMap(\.logs))) }
        if series.lines.count == 1, lines.isEmpty { lines = [(key: nil, isOthers: false, logs: [])] }
        guard series.lines.map(\.key) == lines.map(\.key), series.lines.map(\.isOthers) == lines.map(\.isOthers) else {
            return ["series: lines \(series.lines.map(\.key)), should be \(lines.map(\.key))"]
        }
        var differences: [String] = []
        for (line, expected) in zip(series.lines, lines) {
            let buckets = Dictionary(grouping: expected.logs) { Self.bucket(of: $0.time, in: series.buckets) }
            for (index, sums) in line.sums.enumerated() {
                differences += UsageMeasures(buckets[index] ?? []).differences(
                    from: sums, line.isOthers ? nil : line.latencies[index]
                ).map { "series of \(line.key ?? "all") in bucket \(index): \($0)" }
            }
        }
        return differences
    }

    /// The last bucket that begins at `time` or before.
    private static func bucket(of time: Timestamp, in buckets: [UsageSeries.Bucket]) -> Int {
        var (low, high) = (0, buckets.count)
        while low < high {
            let middle = (low + high) / 2
            if buckets[middle].start <= time { low = middle + 1 } else { high = middle }
        }
        return low - 1
    }

    private func differences(of pages: [UsageBreakdown], _ logs: [UsageModel.Log]) -> [String] {
        var groups = ranked(Dictionary(grouping: logs) { Self.key(group, $0) })
        var differences: [String] = []
        for page in pages {
            differences += self.differences(of: page, Array(groups.prefix(limit)), of: logs, hasLatency: true)
            groups = Array(groups.dropFirst(limit))
            differences += self.differences(ofOthers: page.others, groups, of: logs)
        }
        return (differences + (groups.isEmpty ? [] : ["\(groups.count) groups missing"])).map { "breakdown: \($0)" }
    }

    private func differences(ofEvents page: UsageBreakdown, _ logs: [UsageModel.Log]) -> [String] {
        let logs = logs.filter { $0.event != nil }
        var groups: [String?: [UsageModel.Log]] = [:]
        for log in logs {
            for key in log.event.map({ Self.keys(eventGroup, $0) }) ?? [] { groups[key, default: []].append(log) }
        }
        let order = ranked(groups)
        return
            (differences(of: page, Array(order.prefix(limit)), of: logs, hasLatency: false)
            + differences(ofOthers: page.others, Array(order.dropFirst(limit)), of: logs)).map { "events: \($0)" }
    }

    /// A page has `groups`, of all `logs`.
    private func differences(
        of page: UsageBreakdown, _ groups: [Group], of logs: [UsageModel.Log], hasLatency: Bool
    ) -> [String] {
        let total = UsageMeasures(logs).differences(from: page.total).map { "total: \($0)" }
        guard page.groups.map(\.key) == groups.map(\.key) else {
            return total + ["groups \(page.groups.map(\.key)), should be \(groups.map(\.key))"]
        }
        return total
            + zip(page.groups, groups).flatMap { part, group in
                let measures = UsageMeasures(group.logs).differences(
                    from: part.sums, hasLatency ? part.latency : nil)
                return (measures + differences(ofShare: part.share, group.logs, of: logs))
                    .map { "\(part.key ?? "none"): \($0)" }
            }
    }

    private func differences(
        ofOthers others: UsageBreakdown.Others?, _ groups: [Group], of logs: [UsageModel.Log]
    ) -> [String] {
        guard let others, !groups.isEmpty else {
            return (others == nil) == groups.isEmpty ? [] : ["others are \(others as Any), should be \(groups.count)"]
        }
        let rest = groups.flatMap(\.logs)
        let count = others.groups == groups.count ? [] : ["\(others.groups) others, should be \(groups.count)"]
        return count
            + (UsageMeasures(rest).differences(from: others.sums) + differences(ofShare: others.share, rest, of: logs))
            .map { "others: \($0)" }
    }

    private func differences(
        ofShare share: Double?, _ part: [UsageModel.Log], of logs: [UsageModel.Log]
    ) -> [String] {
        let whole = weight(of: logs)
        let expected = whole > 0 ? Double(weight(of: part)) / Double(whole) : nil
        let isRight = share == nil ? expected == nil : expected.map { abs($0 - (share ?? 0)) < 1e-9 } ?? false
        return isRight ? [] : ["share \(share as Any), should be \(expected as Any)"]
    }
}

extension UsageQuestion {
    private static let secondsOfDay: Int64 = 86_400

    private var today: Int64 { now.microseconds / 86_400_000_000 }
    private var firstOfMonth: Int64 {
        let day = CalendarDate(daysSince1970: today).description
        return CalendarDate("\(day.prefix(8))01")?.daysSince1970 ?? 0
    }

    private func differences(of overview: UsageOverview, _ model: UsageModel) -> [String] {
        let logs = model.logs(of: 0).filter { $0.day <= today }
        let plans = Dictionary(grouping: model.plans.values, by: \.self).mapValues(\.count)
        let found = Dictionary(overview.users.map { ($0.plan, $0.count) }, uniquingKeysWith: +)
        return UsageMeasures(logs.filter { $0.day == today }).differences(from: overview.today).map { "today: \($0)" }
            + UsageMeasures(logs.filter { $0.day >= firstOfMonth }).differences(from: overview.month)
            .map { "month: \($0)" } + (found == plans ? [] : ["users \(found), should be \(plans)"])
    }

    /// To Laravel user 0 is nobody.
    private func laravelDifferences(of answers: LaravelAnswers, _ model: UsageModel) -> [String] {
        let logs = model.logs.filter { user != 0 && $0.user == user }
        let since = now.microseconds / 1_000_000 - 30 * Self.secondsOfDay
        let window = Dictionary(grouping: logs.filter { $0.time.microseconds / 1_000_000 >= since }, by: \.day)
            .sorted { $0.key < $1.key }.map { (label: Self.label($0.key), measures: UsageMeasures($0.value)) }
        let month = UsageMeasures(logs.filter { $0.day >= firstOfMonth })
        let today = UsageMeasures(logs.filter { $0.day == self.today })
        let average = ((today.averageDuration ?? 0) * 100).rounded() / 100
        let (stats, chart, analytics) = (answers.stats, answers.chart, answers.analytics)
        let texts: [(name: String, found: String, expected: String)] = [
            (
                "stats", "\(stats.apiCalls) \(stats.tokensUsed) \(stats.totalCost) \(stats.averageResponseTime)",
                "\(today.requests) \(today.tokens) \(Self.money(today)) \(average)"
            ),
            (
                "chart", "\(chart.days.map { "\($0.label) \($0.tokens)" })",
                "\(window.map { "\($0.label) \($0.measures.tokens)" })"
            ),
            (
                "models", "\(chart.models.map { "\($0.name) \($0.calls)" })",
                "\(Self.models(logs.filter { $0.time.microseconds / 1_000_000 >= since }))"
            ),
            (
                "cost trend", "\(analytics.costTrend.map { "\($0.label) \($0.cost)" })",
                "\(window.map { "\($0.label) \(Self.money($0.measures))" })"
            ),
            ("top models", "\(analytics.topModels.map { "\($0.name) \($0.calls)" })", "\(Self.models(logs))"),
            (
                "Laravel's month",
                "\(analytics.month.apiCalls) \(analytics.month.tokensUsed) \(analytics.month.totalCost)",
                "\(month.requests) \(month.tokens) \(Self.money(month))"
            ),
        ]
        return texts.filter { $0.found != $0.expected }.map { "\($0.name): \($0.found), should be \($0.expected)" }
    }

    private static func money(_ measures: UsageMeasures) -> Money {
        Money(picodollars: measures.laravelCost * 1_000_000)
    }

    /// Models and their calls, the most used first.
    private static func models(_ logs: [UsageModel.Log]) -> [String] {
        Dictionary(grouping: logs, by: \.model).mapValues(\.count).sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .map { "\($0.key) \($0.value)" }
    }

    /// A day as Laravel's charts write it, such as `Oct 24`.
    private static func label(_ day: Int64) -> String {
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let parts = CalendarDate(daysSince1970: day).description.split(separator: "-")
        return "\(months[(Int(parts[1]) ?? 1) - 1]) \(parts[2])"
    }
}
