import Domain
import Postgres
import Storage

/// A question of a dashboard, and what plain rows say to it.
struct ReportQuestion: Sendable {
    let name: String
    let summary: String
    /// Asks about the heavy user, or everybody, and returns the requests of all parts of the answer; Laravel's own chart
    /// returns tokens.
    let answer: @Sendable (Connection, _ user: Int64, _ now: Timestamp) throws -> Int64
    /// What it must be, from `api_logs`.
    let truth: @Sendable (_ user: Int64, _ now: Timestamp) -> Query

    static let all = [
        ReportQuestion("plain", "Laravel's own chart: SELECT date, sum … GROUP BY 1 over 30 days") {
            try plainChart($0, $1, $2)
        } truth: {
            "SELECT sum(input_tokens + output_tokens) FROM public.api_logs WHERE \(rows(of: $0, since: moment($1)))"
        },
        ReportQuestion("summary", "30 days UTC of the heavy user, and the 30 days before") { user, now, snapshot in
            try UsageSummary(.user(user), range(now), snapshot).current.sums.requests
        },
        series("series-day", "30 days UTC by day"),
        series("series-model", "the same by model", by: .model),
        series("series-istanbul", "30 days by day in Europe/Istanbul", zone: "Europe/Istanbul"),
        ReportQuestion("breakdown-user", "30 days of everybody by user", isEverybody: true) { _, now, snapshot in
            try UsageBreakdown(.everybody, range(now), by: .user, snapshot).total.requests
        },
        ReportQuestion(
            "laravel-stats", "LaravelStats: the present day", since: { "date_trunc('day', \($0) AT TIME ZONE 'UTC')" }
        ) { user, now, snapshot in
            try LaravelStats(of: user, now: now, snapshot).apiCalls
        },
        ReportQuestion("laravel-chart", "LaravelChart: 30 days by day and by model", since: moment) {
            user, now, snapshot in
            try LaravelChart(of: user, now: now, snapshot).models.reduce(0) { $0 + $1.calls }
        },
        ReportQuestion(
            "laravel-analytics", "LaravelAnalytics: 30 days, models of all time, the present month",
            since: { "date_trunc('month', \($0) AT TIME ZONE 'UTC')" }
        ) { user, now, snapshot in
            try LaravelAnalytics(of: user, now: now, snapshot).month.apiCalls
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

    /// A report of ours, whose truth is the number of rows since a moment.
    private init(
        _ name: String, _ summary: String, isEverybody: Bool = false,
        since: @escaping @Sendable (Timestamp) -> Query = { "\(Self.from($0)) AT TIME ZONE 'UTC'" },
        report: @escaping @Sendable (Int64, Timestamp, UsageSnapshot) throws -> Int64
    ) {
        self.init(name, summary) { connection, user, now in
            try UsageSnapshot.take(connection) { try report(user, now, $0) }
        } truth: { user, now in
            "SELECT count(*) FROM public.api_logs WHERE \(Self.rows(of: isEverybody ? nil : user, since: since(now)))"
        }
    }

    private static func series(
        _ name: String, _ summary: String, by group: UsageGroup? = nil, zone: String = "UTC"
    ) -> ReportQuestion {
        ReportQuestion(name, summary) { user, now, snapshot in
            let range = try range(now, zone: .require(zone, snapshot.connection))
            return try UsageSeries(.user(user), range, every: .day, by: group, snapshot).lines.reduce(0) {
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

    /// 30 days ago to the second, as a row has it.
    private static func moment(_ now: Timestamp) -> Query {
        "date_trunc('second', \(now.advanced(by: .seconds(-30 * 86_400))) AT TIME ZONE 'UTC')"
    }

    /// 30 days ago, at the begin of a quarter of an hour: then whole seconds are as exact as the events' own times.
    private static func from(_ now: Timestamp) -> Timestamp {
        let quarter: Int64 = 900_000_000
        return Timestamp(microseconds: now.microseconds / quarter * quarter).advanced(by: .seconds(-30 * 86_400))
    }

    private static func range(_ now: Timestamp, zone: TimeZoneName = .utc) throws -> ReportRange {
        try ReportRange(from: from(now), to: now.advanced(by: .seconds(900)), zone: zone)
    }
}
