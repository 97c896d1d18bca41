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
                let report = try UsageSummary.read(scope, range, comparedWith: compared, on: snapshot)
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
                let report = try UsageSeries.read(
                    scope, range, every: granularity, by: group, limit: request.integer("limit") ?? 10,
                    rankedBy: request.ranking, hasLatency: true, on: snapshot)
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
            let next = report.pageEnd.map { BreakdownCursor($0, report.range, request).text }
            guard request.format == .json else {
                let groups = report.groups.map { Group($0) } + (report.others.map { [Group($0)] } ?? [])
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
                        on: snapshot)
                } else {
                    try UsageBreakdown.read(
                        scope, range, by: UsageGroup(rawValue: group) ?? .model, after: cursor?.place, limit: limit,
                        rankedBy: request.ranking, hasLatency: true, on: snapshot)
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
    let place: UsageBreakdown.PageEnd
    private let from: Timestamp
    private let to: Timestamp
    /// Grouping and order.
    private let query: String

    /// The cursor of the page that ended at `place`.
    init(_ place: UsageBreakdown.PageEnd, _ range: ReportRange, _ request: APIRequest) {
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
        place = UsageBreakdown.PageEnd(weight: weight, key: parts[4].isEmpty ? nil : String(parts[4].dropFirst()))
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
