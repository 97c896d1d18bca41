import Analytics
import Domain
import Postgres
import Storage

/// What reports must say, kept by the test itself while others write, roll up and die: a list of logs, and every
/// measure computed from it in plain Swift.
struct UsageModel {
    /// A committed log: an event, or a row that Laravel wrote.
    struct Log {
        var id: Int64 = 0
        var user: Int64
        var time: Timestamp
        var model = "gpt-4"
        var provider: String?
        var status: EventStatus
        /// The user's plan; a row of Laravel's has none.
        var plan: String?
        var inputTokens: Int64 = 0
        var outputTokens: Int64 = 0
        var cachedTokens: Int64 = 0
        var reasoningTokens: Int64 = 0
        /// Milliseconds.
        var duration: Int64?
        /// Milliseconds to the first token.
        var firstToken: Int64?
        /// 10^-12 USD; `nil` where the price is not known.
        var cost: Int128?
        /// 10^-6 USD, as `api_logs.total_cost` has it.
        var laravelCost: Int128 = 0
        /// What it adds to its user's counters.
        var quota = UsageQuota()
        /// `nil` of a row that Laravel wrote.
        var event: UsageEvent?

        var quarter: Int64 { time.microseconds / 900_000_000 }
        /// Since 1970, UTC.
        var day: Int64 { time.microseconds / 86_400_000_000 }
        /// Its user reported it, so it counts for the user alone.
        var isSelfReported: Bool { event?.flags.contains(.selfReported) ?? false }
    }

    private(set) var logs: [Log] = []
    /// The living users, and their plans.
    var plans: [Int64: String] = [:]

    mutating func commit(_ log: Log) {
        logs.append(log)
    }

    /// An operator withdraws an event.
    mutating func withdraw(_ id: Int64) {
        logs.removeAll { $0.id == id }
    }

    /// Laravel deletes a user. Events keep their facts, and so do other logs that were rolled up by then.
    mutating func delete(_ user: Int64, laravelWatermark: Int64) {
        logs.removeAll { $0.user == user && $0.event == nil && $0.id > laravelWatermark }
        plans[user] = nil
    }

    /// What counts for a user, 0 for all users.
    func logs(of user: Int64) -> [Log] {
        logs.filter { user == 0 ? !$0.isSelfReported : $0.user == user }
    }

    /// The measures of a user, 0 for all users, a line for each quarter of an hour.
    func usage(of user: Int64) -> String {
        Dictionary(grouping: logs(of: user), by: \.quarter).sorted { $0.key < $1.key }
            .map { "\($0.key) \(UsageMeasures($0.value))" }.joined(separator: "\n")
    }

    /// The counters of a user, a line for each window with usage. A cost counts from `firstDay` on.
    func counters(of user: Int64, costsSince firstDay: Int64) -> [String] {
        var windows: [String: UsageQuota] = [:]
        for log in logs where log.user == user {
            let day = CalendarDate(daysSince1970: log.day).description
            for window in ["daily \(day)", "monthly \(day.prefix(8))01"] {
                windows[window, default: UsageQuota()].add(log.quota)
            }
        }
        return windows.filter { $0.value.requests > 0 }.map { window, quota in
            let begin = CalendarDate(window.split(separator: " ").last.map(String.init) ?? "")
            let isPriced = (begin?.daysSince1970 ?? 0) >= firstDay
            return "\(window) \(quota.requests) \(quota.tokens) \(isPriced ? quota.cost : 0)"
        }.sorted()
    }
}

/// What counts toward a quota.
struct UsageQuota {
    var requests: Int64 = 0
    var tokens: Int64 = 0
    /// 10^-12 USD.
    var cost: Int128 = 0

    mutating func add(_ other: UsageQuota) {
        (requests, tokens, cost) = (requests + other.requests, tokens + other.tokens, cost + other.cost)
    }
}

extension UsageModel.Log {
    /// An event of LiteLLM's, whose cost is `picodollars`; `nil` where it states none.
    init(_ event: UsageEvent, id: Int64, user: Int64, plan: String?, picodollars: Int128?) {
        let (tokens, stated) = (event.inputTokens + event.outputTokens, picodollars ?? 0)
        self.init(id: id, user: user, time: event.occurredAt, status: event.status)
        (model, provider, self.plan, self.event) = (event.modelGroup, event.provider, plan, event)
        (inputTokens, outputTokens) = (event.inputTokens, event.outputTokens)
        (cachedTokens, reasoningTokens) = (event.cachedTokens, event.reasoningTokens)
        (duration, firstToken) = (event.durationMilliseconds, event.timeToFirstTokenMilliseconds)
        // A provider that served a call has a price for it, unless a cache answered.
        let isServed = status == .success || (status == .error && tokens > 0)
        cost = stated == 0 && isServed && !event.isCacheHit ? nil : stated
        laravelCost = min((stated + 500_000) / 1_000_000, 9_999_999_999)
        let isCounted = status == .success || (status == .error && (tokens > 0 || stated > 0))
        if isCounted { quota = UsageQuota(requests: 1, tokens: event.isCacheHit ? 0 : tokens, cost: stated) }
    }

    /// A row as Laravel writes it, whose cost is `microdollars`; `nil` where it is none.
    init(
        user: Int64, at time: Timestamp, model: String, status: EventStatus, inputTokens: Int64, outputTokens: Int64,
        duration: Int64, microdollars: Int128?
    ) {
        self.init(user: user, time: time, model: model, status: status)
        (self.inputTokens, self.outputTokens, self.duration) = (inputTokens, outputTokens, duration)
        (cost, laravelCost) = (microdollars.map { $0 * 1_000_000 }, microdollars ?? 0)
        if status != .rateLimited {
            quota = UsageQuota(requests: 1, tokens: inputTokens + outputTokens, cost: cost ?? 0)
        }
    }

    /// Writes the row as Laravel does, and returns its id.
    func insert(_ connection: Connection) throws -> Int64 {
        try connection.query(
            """
            INSERT INTO public.api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                         status, created_at, updated_at)
            VALUES (\(user), \(model), \(inputTokens), \(outputTokens),
                    \(cost == nil ? "NaN" : "\(laravelCost)e-6")::numeric, \(duration), \(status.rawValue),
                    \(time) AT TIME ZONE 'UTC', now())
            RETURNING id
            """)[0].decode(0)
    }
}

/// Every measure of some logs.
struct UsageMeasures: CustomStringConvertible {
    private let logs: [UsageModel.Log]

    init(_ logs: [UsageModel.Log]) {
        self.logs = logs
    }

    var requests: Int { logs.count }
    var tokens: Int64 { logs.reduce(0) { $0 + $1.inputTokens + $1.outputTokens } }
    var durations: [Int64] { logs.compactMap(\.duration) }
    /// 10^-12 USD, of the priced.
    var cost: Int128 { logs.reduce(0) { $0 + ($1.cost ?? 0) } }
    /// 10^-6 USD.
    var laravelCost: Int128 { logs.reduce(0) { $0 + $1.laravelCost } }
    /// Milliseconds of a log; `nil` without logs.
    var averageDuration: Double? { average(of: durations.reduce(0, +)) }

    private func sum(_ count: KeyPath<UsageModel.Log, Int64>) -> Int64 { logs.reduce(0) { $0 + $1[keyPath: count] } }

    private func count(_ status: EventStatus) -> Int { logs.count { $0.status == status } }

    private func average(of sum: Int64) -> Double? { logs.isEmpty ? nil : Double(sum) / Double(logs.count) }

    /// What is reported of logs that have a status, by name.
    private var figures: [(name: String, value: String)] {
        let unpriced = logs.count { $0.cost == nil }
        return [
            ("requests", "\(requests)"), ("unpriced", "\(unpriced)"), ("input tokens", "\(sum(\.inputTokens))"),
            ("output tokens", "\(sum(\.outputTokens))"), ("cached tokens", "\(sum(\.cachedTokens))"),
            ("reasoning tokens", "\(sum(\.reasoningTokens))"), ("duration", "\(durations.reduce(0, +))"),
            ("cost", "\(cost)"), ("Laravel cost", "\(laravelCost * 1_000_000)"), ("errors", "\(count(.error))"),
            ("rate-limited", "\(count(.rateLimited))"), ("tokens", "\(tokens)"),
            ("known cost", unpriced == requests && requests > 0 ? "none" : "\(cost)"),
            ("error rate", Self.text(average(of: Int64(count(.error))))),
            ("average duration", Self.text(averageDuration)),
        ]
    }

    private static func text(_ ratio: Double?) -> String { ratio.map { "\($0)" } ?? "none" }

    private static func figures(of totals: UsageTotals) -> [String] {
        [
            "\(totals.requests)", "\(totals.unpriced)", "\(totals.inputTokens)", "\(totals.outputTokens)",
            "\(totals.cachedTokens)", "\(totals.reasoningTokens)", "\(totals.duration)",
            "\(totals.pricedCost.picodollars)", "\(totals.laravelCost.picodollars)", "\(totals.errors)",
            "\(totals.rateLimited)", "\(totals.tokens)", totals.cost.map { "\($0.picodollars)" } ?? "none",
            text(totals.errorRate), text(totals.averageDuration),
        ]
    }

    /// The measures of a rollup, separated by spaces.
    var description: String { figures.prefix(9).map(\.value).joined(separator: " ") }

    /// What a report says other than this, as text: each measure, and percentiles that are more than 2 % beside the log
    /// that stands there.
    func differences(from totals: UsageTotals, _ latency: UsageLatency? = nil) -> [String] {
        let differences = zip(figures, Self.figures(of: totals)).compactMap { expected, reported in
            expected.value == reported ? nil : "\(expected.name) \(reported), should be \(expected.value)"
        }
        guard let latency else { return differences }
        return differences + Self.differences("duration", durations, latency.duration)
            + Self.differences("first token", logs.compactMap(\.firstToken), latency.firstToken)
    }

    private static func differences(
        _ name: String, _ values: [Int64], _ reported: UsageLatency.Percentiles?
    ) -> [String] {
        guard let reported, !values.isEmpty else {
            return values.isEmpty == (reported == nil) ? [] : ["\(name) of \(values.count) logs is \(reported as Any)"]
        }
        let sorted = values.sorted()
        return [(50, reported.p50), (95, reported.p95), (99, reported.p99)].compactMap { percent, found in
            let exact = Double(sorted[(sorted.count * percent + 99) / 100 - 1])
            return abs(found - exact) <= 0.02 * exact ? nil : "\(name) p\(percent) \(found), should be \(exact)"
        }
    }
}
