import Analytics
import Domain
import Postgres
import Storage
import TestSupport

/// One report, repeated on one warm connection, with pending logs that no pass has rolled up.
struct ReportBenchmark: Benchmark {
    let name: String
    private let question: ReportQuestion
    /// The number of pending logs; `nil` if it makes no difference.
    private let pending: Int?

    var summary: String { question.summary + (pending.map { "; \($0) pending logs" } ?? "") }

    init(_ name: String, _ question: ReportQuestion, pending: Int?) {
        self.name = name
        self.question = question
        self.pending = pending
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        if let pending { try await site.makePending(pending) }
        let (user, question, now) = (Int64(BenchUser.heavyID), question, Timestamp.now)
        let (answer, durations, measurement) = try await site.pool.withConnection { connection in
            // PostgreSQL plans the first ones, and reads them from the disk.
            for _ in 0..<3 { _ = try question.answer(connection, user, now) }
            let clock = ContinuousClock()
            let (start, meter) = (clock.now, CPUMeter(service: nil, postmaster: site.postmaster))
            let end = start + .seconds(seconds)
            var (answer, durations) = (Int64(0), [Double]())
            while clock.now < end {
                let begin = clock.now
                answer = try question.answer(connection, user, now)
                durations.append((clock.now - begin) / .milliseconds(1))
            }
            let measurement = Measurement(
                count: durations.count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
            return (answer, durations, measurement)
        }
        let truth = try await site.number(question.truth(user, now))
        try WrongResult.require(answer == truth, "\(name) returns \(answer), the logs give \(truth).")
        return measurement.withLatencies(durations)
    }
}

extension Measurement {
    /// With the mean, the median and the 99th percentile of `durations`, in milliseconds.
    func withLatencies(_ durations: [Double]) -> Measurement {
        let sorted = durations.sorted()
        var measurement = self
        measurement.clientCPU = nil
        measurement.meanLatency = sorted.reduce(0, +) / Double(sorted.count)
        measurement.medianLatency = sorted[sorted.count / 2]
        measurement.latency99 = sorted[min(sorted.count - 1, sorted.count * 99 / 100)]
        return measurement
    }
}

/// A report of a dashboard, and the query for its truth.
struct ReportQuestion: Sendable {
    let name: String
    let summary: String
    /// Asks about the heavy user or all users, and returns the requests of the answer. Laravel's own chart returns
    /// tokens.
    let answer: @Sendable (Connection, _ user: Int64, _ now: Timestamp) throws -> Int64
    /// The right result, from `api_logs`.
    let truth: @Sendable (_ user: Int64, _ now: Timestamp) -> Query

    static let all = [
        ReportQuestion("plain", "Laravel's own chart: SELECT date, sum … GROUP BY 1 over 30 days") {
            try plainChart($0, $1, $2)
        } truth: {
            "SELECT sum(input_tokens + output_tokens) FROM public.api_logs WHERE \(rows(of: $0, since: moment($1)))"
        },
        ReportQuestion("summary", "30 days UTC of the heavy user, and the 30 days before") { user, now, snapshot in
            try UsageSummary.read(.user(user), range(now), on: snapshot).current.sums.requests
        },
        series("series-day", "30 days UTC by day"),
        series("series-model", "the same by model", by: .model),
        series("series-istanbul", "30 days by day in Europe/Istanbul", zone: "Europe/Istanbul"),
        ReportQuestion("breakdown-user", "30 days of all users by user", isAboutAllUsers: true) { _, now, snapshot in
            try UsageBreakdown.read(.allUsers, range(now), by: .user, on: snapshot).total.requests
        },
        ReportQuestion(
            "laravel-stats", "LaravelStats: the present day", since: { "date_trunc('day', \($0) AT TIME ZONE 'UTC')" }
        ) { user, now, snapshot in
            try LaravelStats.read(of: user, now: now, on: snapshot).apiCalls
        },
        ReportQuestion("laravel-chart", "LaravelChart: 30 days by day and by model", since: moment) {
            user, now, snapshot in
            try LaravelChart.read(of: user, now: now, on: snapshot).models.reduce(0) { $0 + $1.calls }
        },
        ReportQuestion(
            "laravel-analytics", "LaravelAnalytics: 30 days, models of all time, the present month",
            since: { "date_trunc('month', \($0) AT TIME ZONE 'UTC')" }
        ) { user, now, snapshot in
            try LaravelAnalytics.read(of: user, now: now, on: snapshot).month.apiCalls
        },
    ]

    private init(
        _ name: String, _ summary: String,
        answer: @escaping @Sendable (Connection, Int64, Timestamp) throws -> Int64,
        truth: @escaping @Sendable (Int64, Timestamp) -> Query
    ) {
        self.name = name
        self.summary = summary
        self.answer = answer
        self.truth = truth
    }

    /// A report whose truth is the number of logs since a moment.
    private init(
        _ name: String, _ summary: String, isAboutAllUsers: Bool = false,
        since: @escaping @Sendable (Timestamp) -> Query = { "\(Self.from($0)) AT TIME ZONE 'UTC'" },
        report: @escaping @Sendable (Int64, Timestamp, ReportSnapshot) throws -> Int64
    ) {
        self.init(name, summary) { connection, user, now in
            try ReportSnapshot.take(connection) { try report(user, now, $0) }
        } truth: { user, now in
            """
            SELECT count(*) FROM public.api_logs
            WHERE \(Self.rows(of: isAboutAllUsers ? nil : user, since: since(now)))
            """
        }
    }

    private static func series(
        _ name: String, _ summary: String, by group: UsageGroup? = nil, zone: String = "UTC"
    ) -> ReportQuestion {
        ReportQuestion(name, summary) { user, now, snapshot in
            let range = try range(now, zone: .require(zone, snapshot.connection))
            return try UsageSeries.read(.user(user), range, every: .day, by: group, on: snapshot).lines.reduce(0) {
                $0 + $1.sums.reduce(0) { $0 + $1.requests }
            }
        }
    }

    private static func plainChart(_ connection: Connection, _ user: Int64, _ now: Timestamp) throws -> Int64 {
        try connection.query(
            """
            SELECT date(created_at) AS date, sum(input_tokens + output_tokens)::bigint AS tokens
            FROM public.api_logs WHERE \(rows(of: user, since: moment(now)))
            GROUP BY 1 ORDER BY 1
            """
        ).reduce(0) { try $0 + $1.decode(1, as: Int64.self) }
    }

    private static func rows(of user: Int64?, since: Query) -> Query {
        let whose: Query = user.map { "user_id = \($0)" } ?? "true"
        return "\(whose) AND created_at >= \(since)"
    }

    /// 30 days ago to the second, as in a log.
    private static func moment(_ now: Timestamp) -> Query {
        "date_trunc('second', \(now.advanced(by: .seconds(-30 * 86_400))) AT TIME ZONE 'UTC')"
    }

    /// 30 days ago, at the beginning of a 15-minute rollup, where whole seconds are as exact as the times of events.
    private static func from(_ now: Timestamp) -> Timestamp {
        let quarter: Int64 = 900_000_000
        return Timestamp(microseconds: now.microseconds / quarter * quarter).advanced(by: .seconds(-30 * 86_400))
    }

    private static func range(_ now: Timestamp, zone: TimeZoneName = .utc) throws -> ReportRange {
        try ReportRange(from: from(now), to: now.advanced(by: .seconds(900)), zone: zone)
    }
}
