import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Postgres
import Storage

/// `/api/v1/analytics`: usage reports over any range and time zone.
struct AnalyticsController: Sendable {
    let database: Database

    private static let scope: [Parameter] =
        [
            .query("user_id", .integer(1...Int.max), "Whose usage. Only administrators may name somebody else."),
            .repeated("model", .text(255), "Only these models.", example: "gpt-4o"),
            .repeated("provider", .text(255), "Only these providers.", example: "openai"),
            .repeated("status", .choice(EventStatus.allCases.map(\.rawValue)), "Only these outcomes."),
            .repeated("plan", .text(255), "Only usage under these plans.", example: "pro"),
        ] + Period.parameters

    private static func ranking(ofAtMost groups: Int) -> [Parameter] {
        [
            .query(
                "order_by", .choice(UsageRanking.allCases.map(\.rawValue)),
                "What ranks the groups; requests by default."),
            .query("limit", .integer(1...groups), "Groups listed, 10 by default. The rest is summed as others."),
        ]
    }

    private static let usageGroups = UsageGroup.allCases.map(\.rawValue)
    private static let logGroups = EventGroup.allCases.map(\.rawValue)

    var getSummary: Operation {
        Operation(
            "The totals of a range.",
            Self.scope + [
                .query(
                    "compare", .choice(["previous", "year"]), "Also the range before, or the same range a year ago.")
            ], content: Format.content(Self.summary.schema)
        ) { request in
            let comparison = request.text("compare")
            let (report, meta) = try await report(request) { scope, range, snapshot in
                let compared = comparison == "year" ? try range.yearBefore(snapshot.connection) : nil
                let report = try UsageSummary(scope, range, comparedWith: compared, snapshot)
                return (report, report.current.sums)
            }
            let summary = Summary(
                current: report.current, compared: comparison == nil ? nil : report.previous, meta: meta)
            guard request.format == .json else { return rows([Self.period.json(report.current)], request) }
            return .json(Self.summary.json(summary))
        }
    }

    var getTimeseries: Operation {
        Operation(
            "Usage for each bucket of time, empty buckets included.",
            Self.scope + Self.ranking(ofAtMost: 100) + [
                .query(
                    "granularity", .choice(["auto"] + Granularity.allCases.map(\.rawValue)),
                    "The size of a bucket; auto by default."),
                .query("group_by", .choice(Self.usageGroups), "One series for each of these."),
            ], content: Format.content(Self.timeseries.schema)
        ) { request in
            let granularity = request.text("granularity").flatMap(Granularity.init(rawValue:))
            let group = request.text("group_by").flatMap(UsageGroup.init(rawValue:))
            let (report, meta) = try await report(request) { scope, range, snapshot in
                let report = try UsageSeries(
                    scope, range, every: granularity, by: group, limit: request.integer("limit") ?? 10,
                    rankedBy: request.ranking, hasLatency: true, snapshot)
                return (report, report.lines.flatMap(\.sums).reduce(UsageTotals(), +))
            }
            guard request.format == .json else {
                let cells = report.lines.flatMap { line in
                    zip(report.buckets, line.values).map { TimeseriesRow(bucket: $0, line: line, value: $1) }
                }
                return rows(cells.map(Self.timeseriesRow.json), request)
            }
            return .json(Self.timeseries.json(Timeseries(report: report, meta: meta)))
        }
    }

    var getBreakdown: Operation {
        Operation(
            "Usage by group, the largest group first. Groups by \(Self.logGroups.joined(separator: ", ")) "
                + "read a limited number of logs. As text/csv or application/x-ndjson, Link names the next page.",
            Self.scope + Self.ranking(ofAtMost: 1000) + [
                .query("group_by", .choice(Self.usageGroups + Self.logGroups), "The group; model by default."),
                .query("cursor", .text(2048), "`next_cursor` of the page before, of the same range."),
            ], content: Format.content(Self.breakdownJSON.schema)
        ) { request in
            let cursor = try BreakdownCursor(of: request)
            let group = request.text("group_by") ?? UsageGroup.model.rawValue
            let (report, meta) = try await breakdown(request, by: group, after: cursor)
            let next = report.next.map { BreakdownCursor($0, report.range, request).text }
            guard request.format == .json else {
                let groups = report.parts.map { Group($0) } + (report.others.map { [Group($0)] } ?? [])
                var answer = rows(groups.map(Self.group.json), request)
                answer.headers[.link] = next.map { request.link(toPage: $0) }
                return answer
            }
            return .json(Self.breakdownJSON.json(Breakdown(report: report, group: group, nextCursor: next, meta: meta)))
        }
    }

    private func breakdown(
        _ request: APIRequest, by group: String, after cursor: BreakdownCursor?
    ) async throws -> (UsageBreakdown, Meta) {
        let limit = request.integer("limit") ?? 10
        // A breakdown of logs may read the logs of all users: few of them run at once for one user.
        let place = EventGroup(rawValue: group) == nil ? nil : try database.place(for: try request.user.id)
        defer { place?.leave() }
        return try await report(request, continuing: cursor) { scope, range, snapshot in
            let report =
                if let ofLogs = EventGroup(rawValue: group) {
                    try EventBreakdown.read(
                        scope, range, by: ofLogs, after: cursor?.place, limit: limit, rankedBy: request.ranking,
                        snapshot)
                } else {
                    try UsageBreakdown(
                        scope, range, by: UsageGroup(rawValue: group) ?? .model, after: cursor?.place, limit: limit,
                        rankedBy: request.ranking, hasLatency: true, snapshot)
                }
            return (report, report.total)
        }
    }

    /// The report that `read` makes for the request's scope and range, and the answer's `meta`, from one snapshot.
    private func report<Report: Sendable>(
        _ request: APIRequest, continuing cursor: BreakdownCursor? = nil,
        _ read: @Sendable (UsageScope, ReportRange, ReportSnapshot) throws -> (report: Report, total: UsageTotals)
    ) async throws -> (Report, Meta) {
        let subject = try request.subject
        let scope = UsageScope(
            user: subject, models: Set(request.texts("model") ?? []), providers: Set(request.texts("provider") ?? []),
            statuses: Set((request.texts("status") ?? []).compactMap(EventStatus.init(rawValue:))),
            plans: Set(request.texts("plan") ?? []))
        return try await database.read { connection in
            let requested = try Period.range(of: request, connection)
            let range = try cursor?.range(for: request, requested: requested) ?? requested
            return try ReportSnapshot.take(connection) { snapshot in
                let (report, total) = try read(scope, range, snapshot)
                let missing = try Quarantine.openCount(of: subject, from: range.from, to: range.to, connection)
                let meta = Meta(asOf: snapshot.asOf, quarantined: missing, unpricedRequests: total.unpriced)
                return (report, meta)
            }
        }
    }

    private func rows(_ rows: [JSON], _ request: APIRequest) -> APIResponse {
        let flat = rows.map(\.flattened)
        let columns = flat.first?.members?.map(\.key) ?? []
        return APIResponse(content: .text(request.format.text(columns, flat), type: request.format.contentType))
    }
}

extension APIRequest {
    /// The parameter `order_by`.
    var ranking: UsageRanking { text("order_by").flatMap(UsageRanking.init(rawValue:)) ?? .requests }
}

/// Where a page of a breakdown ended, and the query that it belongs to. All pages have the range of the first one, also
/// when another day has begun since.
struct BreakdownCursor {
    let place: UsageBreakdown.Place
    private let from: Timestamp
    private let to: Timestamp
    /// Grouping and order.
    private let query: String

    /// The cursor of the page that ended at `place`.
    init(_ place: UsageBreakdown.Place, _ range: ReportRange, _ request: APIRequest) {
        self.place = place
        (from, to, query) = (range.from, range.to, Self.query(of: request))
    }

    /// The cursor of `request`; `nil` where it has none.
    ///
    /// - Throws: ``AppError`` `.invalid` when the cursor belongs to another grouping or order, or is malformed.
    init?(of request: APIRequest) throws {
        guard let text = request.text("cursor") else { return nil }
        let parts = try Cursor.decode(text, count: 5)
        query = Self.query(of: request)
        guard parts[0] == query, let from = Timestamp(rfc3339: parts[1]), let to = Timestamp(rfc3339: parts[2]),
            Self.isWeight(parts[3]), let weight = DecimalLiteral(parts[3])
        else { throw Cursor.invalid }
        (self.from, self.to) = (from, to)
        // A group without a name differs from a group whose name is empty.
        place = UsageBreakdown.Place(weight: weight, key: parts[4].isEmpty ? nil : String(parts[4].dropFirst()))
        guard request.text("group_by") != UsageGroup.user.rawValue || place.key.flatMap(Int64.init) != nil else {
            throw Cursor.invalid
        }
    }

    /// The cursor as text for a URL.
    var text: String {
        Cursor.encode([query, from.rfc3339, to.rfc3339, place.weight.text, place.key.map { "=" + $0 } ?? ""])
    }

    /// The range of all pages. `requested` is the range of this request.
    ///
    /// - Throws: ``AppError`` `.invalid` when the request names another range.
    func range(for request: APIRequest, requested: ReportRange) throws -> ReportRange {
        guard request.text("from") == nil || requested.from == from, request.text("to") == nil || requested.to == to
        else { throw Cursor.invalid }
        return try ReportRange(from: from, to: to, zone: requested.zone)
    }

    /// Whether `text` is a sum as PostgreSQL writes it: plain digits, at most as many as a sum can have.
    private static func isWeight(_ text: String) -> Bool {
        text.utf8.count <= 60 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2E || $0 == 0x2D }
    }

    private static func query(of request: APIRequest) -> String {
        "\(request.text("group_by") ?? UsageGroup.model.rawValue) \(request.ranking.rawValue)"
    }
}

extension APIRequest {
    /// The header `Link` (RFC 8288), which names the next page of an answer that has no field for a cursor.
    func link(toPage cursor: String) -> String {
        let others = (http.uri.query ?? "").split(separator: "&").filter { pair in
            FormField.parse(pair.utf8).first?.name != "cursor"
        }
        return "<\(http.uri.path)?\((others + ["cursor=\(cursor)"]).joined(separator: "&"))>; rel=\"next\""
    }
}

// What the reports answer, and the fields of it.
extension AnalyticsController {
    fileprivate struct Meta: Sendable {
        let asOf: Timestamp
        /// Events of the range and user that are in quarantine.
        let quarantined: Int
        let unpricedRequests: Int64
    }

    fileprivate struct Summary: Sendable {
        let current: UsageSummary.Period
        let compared: UsageSummary.Period?
        let meta: Meta
    }

    fileprivate struct Timeseries: Sendable {
        let report: UsageSeries
        let meta: Meta
    }

    /// One bucket of one series, as a row.
    fileprivate struct TimeseriesRow: Sendable {
        let bucket: UsageSeries.Bucket
        let line: UsageSeries.Line
        let value: Usage
    }

    /// One group of a breakdown, or all groups that are not listed.
    fileprivate struct Group: Sendable {
        let key: String?
        let groups: Int
        let share: Double?
        let usage: Usage

        init(_ part: UsageBreakdown.Part) {
            (key, groups, share, usage) = (part.key, 1, part.share, Usage(part.sums, part.latency))
        }

        init(_ others: UsageBreakdown.Others) {
            (key, groups, share, usage) = (nil, others.groups, others.share, Usage(others.sums))
        }
    }

    fileprivate struct Breakdown: Sendable {
        let report: UsageBreakdown
        let group: String
        let nextCursor: String?
        let meta: Meta
    }

    private static let meta = JSONType<Meta>.object(
        "ReportMeta",
        [
            Field("as_of", .time, \.asOf), Field("complete_through", .time, \.asOf),
            Field("quarantined", .integer, example: 0, \.quarantined),
            Field("unpriced_requests", .integer, example: 0, \.unpricedRequests),
        ])

    private static let range: [Field<ReportRange>] = [
        Field("from", .time, \.from), Field("to", .time, \.to),
        Field("timezone", .string, example: "Europe/Istanbul", \.zone.name),
    ]

    private static let summary = JSONType<Summary>.object(
        "UsageSummary",
        range.map { $0.inside(\.current.range) } + [
            Field("current", Usage.json) { Usage($0.current) },
            Field("compared", .nullable(Usage.json)) { $0.compared.map { Usage($0) } }, Field("meta", meta, \.meta),
        ])

    /// The row of a summary.
    private static let period = JSONType<UsageSummary.Period>.object(
        nil, range.map { $0.inside(\.range) } + Usage.fields.map { $0.inside { Usage($0) } })

    private static let bucket: [Field<UsageSeries.Bucket>] = [
        Field("start", .time, \.start), Field("end", .time, \.end),
    ]

    private static let line: [Field<UsageSeries.Line>] = [
        Field("key", .nullable(.string), example: "gpt-4o", \.key), Field("is_others", .boolean, \.isOthers),
    ]

    private static let timeseries = JSONType<Timeseries>.object(
        "UsageTimeseries",
        range.map { $0.inside(\.report.range) } + [
            Field("granularity", .string, example: "day", \.report.granularity.rawValue),
            Field("buckets", .list(.object("TimeBucket", bucket)), \.report.buckets),
            Field("series", .list(.object("UsageSeries", line + [Field("values", .list(Usage.json), \.values)]))) {
                $0.report.lines
            }, Field("meta", meta, \.meta),
        ])

    private static let timeseriesRow = JSONType<TimeseriesRow>.object(
        nil,
        bucket.map { $0.inside(\.bucket) } + line.map { $0.inside(\.line) } + Usage.fields.map { $0.inside(\.value) })

    private static let group = JSONType<Group>.object(
        "UsageGroup",
        [
            Field("key", .nullable(.string), example: "gpt-4o", \.key), Field("groups", .integer, example: 1, \.groups),
            Field("share", .nullable(.ratio), example: .number("0.75"), \.share),
        ] + Usage.fields.map { $0.inside(\.usage) })

    private static let breakdownJSON = JSONType<Breakdown>.object(
        "UsageBreakdown",
        range.map { $0.inside(\.report.range) } + [
            Field("group_by", .string, example: "model", \.group),
            Field("data", .list(group)) { $0.report.parts.map { Group($0) } },
            Field("others", .nullable(group)) { $0.report.others.map { Group($0) } },
            Field("total", Usage.json) { Usage($0.report.total) },
            Field("next_cursor", .nullable(.string), \.nextCursor), Field("meta", meta, \.meta),
        ])
}

/// What requests used, and how long they took. Money is exact text, and null where no price is known.
struct Usage: Sendable {
    let sums: UsageTotals
    let latency: UsageLatency

    init(_ sums: UsageTotals, _ latency: UsageLatency = UsageLatency()) {
        self.sums = sums
        self.latency = latency
    }

    fileprivate init(_ period: UsageSummary.Period) {
        self.init(period.sums, period.latency)
    }

    /// Always with its members, so that all rows have the same columns.
    private static let percentiles = JSONType<UsageLatency.Percentiles?>.object(
        "Percentiles",
        [
            Field("p50", .nullable(.milliseconds), example: 850) { $0?.p50 },
            Field("p95", .nullable(.milliseconds), example: 2_400) { $0?.p95 },
            Field("p99", .nullable(.milliseconds), example: 4_100) { $0?.p99 },
        ])

    static let fields: [Field<Usage>] = [
        Field("requests", .integer, example: 120, \.sums.requests),
        Field("errors", .integer, example: 3, \.sums.errors),
        Field("rate_limited", .integer, example: 1, \.sums.rateLimited),
        Field("unpriced_requests", .integer, example: 0, \.sums.unpriced),
        Field("input_tokens", .integer, example: 54_000, \.sums.inputTokens),
        Field("output_tokens", .integer, example: 12_000, \.sums.outputTokens),
        Field("cached_tokens", .integer, example: 8_000, \.sums.cachedTokens),
        Field("reasoning_tokens", .integer, example: 0, \.sums.reasoningTokens),
        Field("total_tokens", .integer, example: 66_000, \.sums.tokens),
        Field("cost", .nullable(.money), \.sums.cost), Field("ledger_cost", .money, \.sums.laravelCost),
        Field("error_rate", .nullable(.ratio), example: .number("0.025"), \.sums.errorRate),
        Field("average_duration_ms", .nullable(.milliseconds), example: .number("1020.5"), \.sums.averageDuration),
        Field("duration_ms", percentiles, \.latency.duration),
        Field("time_to_first_token_ms", percentiles, \.latency.firstToken),
    ]

    static let json = JSONType<Usage>.object("Usage", fields)
}

extension UsageSeries.Line {
    /// The usage of each bucket.
    fileprivate var values: [Usage] {
        sums.indices.map { Usage(sums[$0], latencies.indices.contains($0) ? latencies[$0] : UsageLatency()) }
    }
}

extension JSONType<Double> {
    /// At most two decimals: a percentile is exact to 2 %, and a duration to a millisecond.
    fileprivate static var milliseconds: JSONType {
        JSONType(Schema.number) { .number((($0 * 100).rounded() / 100).jsonLiteral) }
    }

    /// At most six decimals.
    fileprivate static var ratio: JSONType {
        JSONType(Schema.number) { .number((($0 * 1_000_000).rounded() / 1_000_000).jsonLiteral) }
    }
}

extension JSON {
    /// An object without objects inside: `{a: {b: 1}}` is `{a_b: 1}`.
    fileprivate var flattened: JSON {
        .object(
            (members ?? []).flatMap { member -> [Member] in
                guard let inner = member.value.members else { return [member] }
                return inner.map { Member("\(member.key)_\($0.key)", $0.value) }
            })
    }
}
