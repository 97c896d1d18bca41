import Domain
import HTTPSupport
import Storage

// Laravel's JSON: models with times in microseconds and decimals as texts (docs/laravel.md).

extension UserProfile {
    static let laravelJSON = JSONType<UserProfile>.object(
        "LaravelUser",
        [
            Field("id", .integer, \.id), Field("name", .string, example: "Ada", \.name),
            Field("email", .string, example: "ada@example.com", \.email),
            Field("email_verified_at", .nullable(.laravelTime), \.emailVerifiedAt),
            Field("plan", .string, example: "pro", \.plan), Field("status", .string, example: "active", \.status),
            Field("created_at", .nullable(.laravelTime), \.createdAt),
            Field("updated_at", .nullable(.laravelTime), \.updatedAt), Field("is_admin", .boolean, \.isAdmin),
        ])
}

extension LogRow {
    static let laravelJSON = JSONType<LogRow>.object(
        "LaravelLog",
        [
            Field("id", .integer, \.id), Field("user_id", .integer, \.userID),
            Field("model", .string, example: "gpt-4o", \.model),
            Field("input_tokens", .integer, example: 450, \.inputTokens),
            Field("output_tokens", .integer, example: 100, \.outputTokens),
            Field("total_cost", .laravelMoney) { $0.cost ?? .zero },
            Field("response_time_ms", .integer, example: 850, \.duration),
            Field("status", .string, example: "success", \.status),
            Field("error_message", .nullable(.string), \.errorMessage),
            Field("created_at", .nullable(.laravelTime), \.createdAt),
            Field("updated_at", .nullable(.laravelTime), \.updatedAt),
        ])
}

extension LanguageModel {
    static let laravelJSON = JSONType<LanguageModel>.object(
        "Model",
        [
            Field("id", .integer, \.id), Field("name", .string, example: "GPT-4o", \.name),
            Field("model_id", .string, example: "gpt-4o", \.modelID),
            Field("cost_per_1k_tokens", JSONType(Schema.money, JSON.string), \.cost),
            Field("availability", .boolean, \.isAvailable), Field("description", .nullable(.string), \.description),
            Field("created_at", .nullable(.laravelTime), \.createdAt),
            Field("updated_at", .nullable(.laravelTime), \.updatedAt),
        ])
}

extension LimitStatus {
    private static let window = JSONType<LimitStatus>.object(
        "LaravelLimit",
        [
            Field("limit", .integer, example: 100_000, \.tokens.limit),
            Field("used", .integer, example: 25_000, \.tokens.used),
            Field("remaining", .integer, example: 75_000, \.tokens.remaining),
            Field("limit_requests", .integer, example: 1_000, \.requests.limit),
            Field("used_requests", .integer, example: 250, \.requests.used),
            Field("remaining_requests", .integer, example: 750, \.requests.remaining),
            Field("reset_at", .laravelTime, \.resetsAt),
        ])

    private static let windows: JSONType<[(key: String, value: LimitStatus)]> = .map(of: window)

    /// `{daily: {…}, monthly: {…}}`
    static let laravelJSON = JSONType<[LimitStatus]>(windows.schema) { limits in
        windows.json(limits.map { ($0.period.rawValue, $0) })
    }
}

/// `{"message": …}`
struct Message: Sendable {
    let text: String

    static let json = JSONType<Message>.object("Message", [Field("message", .string, \.text)])
}

/// Laravel's `LengthAwarePaginator` as JSON, its keys in order.
struct Paginator: Sendable {
    let path: String
    let number: Int
    let size: Int
    let total: Int

    private var last: Int { max(1, (total + size - 1) / size) }

    private var previous: Int? { number > 1 ? number - 1 : nil }
    private var next: Int? { number < last ? number + 1 : nil }

    private func url(_ page: Int) -> String { "\(path)?page=\(page)" }

    /// One link of the page's list of links. The gap has no member `page`.
    private struct Link: Sendable {
        var label: String
        var page: Int?
        var url: String?
        var isActive = false
        var isGap = false
    }

    private var links: [Link] {
        [link(previous, label: "&laquo; Previous")]
            + window.map { page in
                page.map { link($0, label: "\($0)", isActive: $0 == number) } ?? Link(label: "...", isGap: true)
            } + [link(next, label: "Next &raquo;")]
    }

    private func link(_ page: Int?, label: String, isActive: Bool = false) -> Link {
        Link(label: label, page: page, url: page.map(url), isActive: isActive)
    }

    /// The pages with a link, `nil` for a gap: Laravel's `UrlWindow` with 3 on each side.
    private var window: [Int?] {
        let (side, ends) = (3, 2)
        guard last >= side * 2 + 8 else { return Array(1...last) }
        let edge = side + 4
        let beginning = Array(1...ends), ending = Array((last - ends + 1)...last)
        if number <= edge { return Array(1...(edge + side)) + [nil] + ending }
        if number > last - edge { return beginning + [nil] + Array((last - (edge + side - 1))...last) }
        return beginning + [nil] + Array((number - side)...(number + side)) + [nil] + ending
    }

    private static let link = JSONType<Link>.object(
        "LaravelPageLink",
        [
            Field("url", .nullable(.string), \.url), Field("label", .string, \.label),
            .optional("page", .nullable(.integer)) { $0.isGap ? nil : .some($0.page) },
            Field("active", .boolean, \.isActive),
        ])

    /// A page with its rows.
    static func json<Row: Sendable>(_ name: String, of row: JSONType<Row>) -> JSONType<
        (paginator: Paginator, rows: [Row])
    > {
        .object(
            name,
            [
                Field("current_page", .integer, \.paginator.number), Field("data", .list(row), \.rows),
                Field("first_page_url", .string) { $0.paginator.url(1) },
                Field("from", .nullable(.integer)) { $0.paginator.first(of: $0.rows.count) },
                Field("last_page", .integer, \.paginator.last),
                Field("last_page_url", .string) { $0.paginator.url($0.paginator.last) },
                Field("links", .list(link), \.paginator.links),
                Field("next_page_url", .nullable(.string)) { page in page.paginator.next.map(page.paginator.url) },
                Field("path", .string, \.paginator.path), Field("per_page", .integer, \.paginator.size),
                Field("prev_page_url", .nullable(.string)) { page in page.paginator.previous.map(page.paginator.url) },
                Field("to", .nullable(.integer)) { page in
                    page.paginator.first(of: page.rows.count).map { $0 + page.rows.count - 1 }
                }, Field("total", .integer, \.paginator.total),
            ])
    }

    /// The number of the page's first row; `nil` where the page is empty.
    private func first(of count: Int) -> Int? { count == 0 ? nil : (number - 1) * size + 1 }
}
