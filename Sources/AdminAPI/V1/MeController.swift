import Analytics
import Domain
import HTTPSupport
import Postgres
import Storage

/// `/api/v1/me`: the caller's profile, limits and what is used of them.
struct MeController: Sendable {
    let database: Database

    /// What `getMe` answers.
    private struct Me: Sendable {
        let user: UserProfile
        let limits: LimitWindows
        let limitRequests: [LimitRequest]
        let favoriteModels: [String]
        let asOf: Timestamp
    }

    private static let me = JSONType<Me>.object(
        "Me",
        [
            Field("id", .integer, \.user.id), Field("name", .string, example: "Ada", \.user.name),
            Field("email", .string, example: "ada@example.com", \.user.email),
            Field("plan", .string, example: "pro", \.user.plan),
            Field("status", .string, example: "active", \.user.status), Field("is_admin", .boolean, \.user.isAdmin),
            Field("created_at", .nullable(.time), \.user.createdAt), Field("limits", LimitWindows.json, \.limits),
            Field("limit_requests", .list(LimitRequest.json), \.limitRequests),
            Field("favorite_models", .list(.string), \.favoriteModels), Field("as_of", .time, \.asOf),
        ])

    var getMe: Operation {
        Operation("Profile, limits and what is used of them.", returns: Self.me) { request in
            let user = try request.user
            return try await database.snapshot { connection in
                let limits = try LimitStatus.read(user.id, connection, now: request.now)
                let models = try LanguageModel.list(for: user.id, onlyAvailable: false, connection)
                return Me(
                    user: user, limits: LimitWindows(limits: limits, now: request.now),
                    limitRequests: try LimitRequest.list(of: user.id, connection),
                    favoriteModels: models.filter(\.isFavorite).map(\.modelID), asOf: request.now)
            }
        }
    }
}

/// A user's limits as `{daily: {…}, monthly: {…}}`: what is left, and when it is used up if usage goes on at its rate.
struct LimitWindows: Sendable {
    /// One window at a time.
    struct Window: Sendable {
        let limit: LimitStatus
        let now: Timestamp
    }

    fileprivate struct Amount: Sendable {
        let amount: LimitStatus.Amount
        let window: Window
        var rate: Rate { Rate(limit: Double(amount.limit), used: Double(amount.used), window: window) }
    }

    fileprivate struct Budget: Sendable {
        let budget: LimitStatus.Budget
        let window: Window
        var rate: Rate {
            Rate(limit: Double(budget.limit.picodollars), used: Double(budget.used.picodollars), window: window)
        }
    }

    /// How fast a limit of a window is used, in any unit.
    fileprivate struct Rate {
        let limit: Double
        let used: Double
        let window: Window
    }

    let limits: [LimitStatus]
    let now: Timestamp

    private static let amount = JSONType<Amount>.object(
        "LimitAmount",
        [
            Field("limit", .integer, example: 100_000, \.amount.limit),
            Field("used", .integer, example: 25_000, \.amount.used),
            Field("remaining", .integer, example: 75_000, \.amount.remaining),
            Field("percent", .number, example: 25, \.rate.percent),
            Field("exhausted_at", .nullable(.time), \.rate.exhaustion),
        ])

    private static let budget = JSONType<Budget>.object(
        "LimitBudget",
        [
            Field("limit", .money, \.budget.limit), Field("used", .money, \.budget.used),
            Field("remaining", .money, \.budget.remaining), Field("percent", .number, example: 25, \.rate.percent),
            Field("exhausted_at", .nullable(.time), \.rate.exhaustion),
        ])

    static let window = JSONType<Window>.object(
        "LimitWindow",
        [
            Field("started_at", .time, \.limit.startedAt), Field("resets_at", .time, \.limit.resetsAt),
            Field("is_own", .boolean, \.limit.isOwn),
            Field("tokens", amount) { Amount(amount: $0.limit.tokens, window: $0) },
            Field("requests", amount) { Amount(amount: $0.limit.requests, window: $0) },
            Field("budget", .nullable(budget)) { window in
                window.limit.budget.map { Budget(budget: $0, window: window) }
            },
        ])

    private static let windows: JSONType<[(key: String, value: Window)]> = .map(of: window)
    static let json = JSONType<LimitWindows>(windows.schema) { limits in
        windows.json(limits.limits.map { ($0.period.rawValue, Window(limit: $0, now: limits.now)) })
    }
}

extension LimitWindows.Rate {
    fileprivate var percent: Double {
        guard limit > 0 else { return 100 }
        return (used / limit * 10_000).rounded() / 100
    }

    /// When the limit is used up at the rate of the window so far; `nil` where that is after the window's end.
    fileprivate var exhaustion: Timestamp? {
        guard used < limit else { return window.now }
        guard used > 0 else { return nil }
        let (start, end) = (window.limit.startedAt.microseconds, window.limit.resetsAt.microseconds)
        let elapsed = Double(window.now.microseconds - start)
        let needed = elapsed * (limit / used)
        guard needed < Double(end - start) else { return nil }
        return Timestamp(microseconds: start + Int64(needed))
    }
}

extension LimitRequest {
    /// A user's request for a higher limit, and its answer.
    static let json = JSONType<LimitRequest>.object(
        "LimitRequest",
        [
            Field("id", .integer, \.id), Field("user_id", .integer, \.userID),
            Field("period", .string, example: "daily", \.period.rawValue),
            Field("reason", .nullable(.string), \.reason), Field("requested_at", .nullable(.time), \.requestedAt),
            Field("answer", .nullable(.choice(["granted", "refused"], "LimitRequestAnswer"))) {
                $0.answer.map { $0.isGranted ? "granted" : "refused" }
            }, Field("note", .nullable(.string)) { $0.answer?.note },
            Field("answered_at", .nullable(.time)) { $0.answer?.at },
        ])
}

/// The parameters that name a range of time.
enum Period {
    static let parameters: [Parameter] = [
        .query("from", .moment, "The first moment. A date, or a time without an offset, is in the timezone."),
        .query("to", .moment, "The end, not included.", example: "2026-11-24T00:00:00Z"),
        .query("timezone", .zone, "An IANA name such as Europe/Istanbul; UTC by default."),
    ]

    private static let defaultLength = Duration.seconds(30 * 86_400)
    private static let quarterHour = Duration.seconds(900)

    /// The parameter `timezone`; UTC by default.
    ///
    /// - Throws: ``AppError`` `.invalid` when the database does not know the name.
    static func zone(of request: APIRequest, _ connection: Connection) throws -> TimeZoneName {
        try request.text("timezone").map { try TimeZoneName.require($0, connection) } ?? .utc
    }

    /// The moment of the parameter `name`.
    ///
    /// - Throws: ``AppError`` `.invalid` when it is no moment of the zone.
    static func moment(
        _ name: String, of request: APIRequest, _ zone: TimeZoneName, _ connection: Connection
    ) throws -> Timestamp? {
        guard let text = request.text(name) else { return nil }
        return try Timestamp(rfc3339: text) ?? zone.start(of: text, connection)
    }

    /// The moments of the parameters `from` and `to`, each `nil` where it is not stated. They may be equal.
    ///
    /// - Throws: ``AppError`` `.invalid` when one is no moment of the zone, or the range ends before it begins.
    static func bounds(
        of request: APIRequest, _ zone: TimeZoneName, _ connection: Connection
    ) throws -> (from: Timestamp?, to: Timestamp?) {
        let from = try moment("from", of: request, zone, connection)
        let to = try moment("to", of: request, zone, connection)
        if let from, let to, to < from {
            throw AppError(.invalid, "The range ends before it begins.", cause: .rangeReversed)
        }
        return (from, to)
    }

    /// The range of the parameters; the last 30 days by default.
    ///
    /// - Throws: ``AppError`` `.invalid` when a parameter or the range is invalid.
    static func range(of request: APIRequest, _ connection: Connection) throws -> ReportRange {
        let zone = try zone(of: request, connection)
        let to = try moment("to", of: request, zone, connection) ?? request.now.advanced(by: quarterHour)
        let from = try moment("from", of: request, zone, connection) ?? to.advanced(by: .zero - defaultLength)
        return try ReportRange(from: from, to: to, zone: zone)
    }
}
