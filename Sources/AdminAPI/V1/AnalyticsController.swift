import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Postgres
import Storage

/// `/api/v1/analytics`: how much, how fast, what for, over any range and zone (`design.md` §7).
struct AnalyticsController: Sendable {
    let database: Database

    private static let scope: [Parameter] =
        [
            .query("user_id", .integer(1...Int.max), "Whose usage; administrators only, others see their own."),
            .repeated("model", .text(255), "Of these models."),
            .repeated("provider", .text(255), "Of these providers."),
            .repeated("status", .choice(EventStatus.allCases.map(\.rawValue)), "Ended in these ways."),
            .repeated("plan", .text(255), "Under these plans."),
        ] + Period.parameters

    private static func ranking(ofAtMost groups: Int) -> [Parameter] {
        [
            .query(
                "order_by", .choice(UsageRanking.allCases.map(\.rawValue)),
                "What makes a group large; requests unless said."),
            .query("limit", .integer(1...groups), "Groups of their own, 10 unless said; the rest is one."),
        ]
    }

    private static let groups = UsageGroup.allCases.map(\.rawValue)
    private static let groupsOfCalls = EventGroup.allCases.map(\.rawValue)

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/analytics/summary", .user, "What a range adds up to.",
                Self.scope + [
                    .query("compare", .choice(["previous", "year"]), "The range before, or a year ago, beside it.")
                ],
                answers: Schema.object([
                    "from": Schema.time, "to": Schema.time, "timezone": Schema.string, "current": Schema.sums,
                    "compared": Schema.optional(Schema.sums), "meta": Schema.meta,
                ]), or: Format.types, summary),
            Endpoint(
                .get, "/api/v1/analytics/timeseries", .user, "Usage bucket by bucket, those without usage included.",
                Self.scope + Self.ranking(ofAtMost: 100) + [
                    .query(
                        "granularity", .choice(["auto"] + Granularity.allCases.map(\.rawValue)), "auto unless said."),
                    .query("group_by", .choice(Self.groups), "A line for each of these."),
                ],
                answers: Schema.object([
                    "from": Schema.time, "to": Schema.time, "timezone": Schema.string, "granularity": Schema.string,
                    "buckets": Schema.list(Schema.object(["start": Schema.time, "end": Schema.time])),
                    "series": Schema.list(
                        Schema.object([
                            "key": Schema.optional(Schema.string), "is_others": Schema.boolean,
                            "values": Schema.list(Schema.sums),
                        ])), "meta": Schema.meta,
                ]), or: Format.types, series),
            Endpoint(
                .get, "/api/v1/analytics/breakdown", .user,
                "What usage consists of, the largest first; by \(Self.groupsOfCalls.joined(separator: ", ")) of few calls. "
                    + "As text/csv or application/x-ndjson the next page is named by Link.",
                Self.scope + Self.ranking(ofAtMost: 1000) + [
                    .query("group_by", .choice(Self.groups + Self.groupsOfCalls), "By what; model unless said."),
                    .query("cursor", .text(2048), "Where the page before ended; of the same range."),
                ],
                answers: Schema.object([
                    "from": Schema.time, "to": Schema.time, "timezone": Schema.string, "group_by": Schema.string,
                    "data": Schema.list(Schema.part), "others": Schema.optional(Schema.part), "total": Schema.sums,
                    "next_cursor": Schema.optional(Schema.string), "meta": Schema.meta,
                ]), or: Format.types, breakdown),
        ]
    }

    @Sendable private func summary(_ request: APIRequest) async throws -> APIResponse {
        let comparison = request.text("compare")
        let (report, meta) = try await report(request) { scope, range, snapshot in
            let compared = comparison == "year" ? try range.yearBefore(snapshot.connection) : nil
            let report = try UsageSummary(scope, range, comparedWith: compared, snapshot)
            return (report, report.current.sums)
        }
        let period = report.current
        let current = period.sums.json(period.latency)
        guard request.format == .json else { return rows([period.range.json.merging(current)], request) }
        let compared = comparison == nil ? nil : report.previous.map { $0.sums.json($0.latency) }
        return .json(
            period.range.json.merging(["current": current, "compared": compared ?? .null, "meta": meta]))
    }

    @Sendable private func series(_ request: APIRequest) async throws -> APIResponse {
        let granularity = request.text("granularity").flatMap(Granularity.init(rawValue:))
        let group = request.text("group_by").flatMap(UsageGroup.init(rawValue:))
        let (report, meta) = try await report(request) { scope, range, snapshot in
            let report = try UsageSeries(
                scope, range, every: granularity, by: group, limit: request.integer("limit") ?? 10,
                rankedBy: request.ranking, hasLatency: true, snapshot)
            return (report, report.lines.flatMap(\.sums).reduce(UsageSums(), +))
        }
        let buckets = report.buckets.map { bucket -> JSON in
            ["start": .string(bucket.start.rfc3339), "end": .string(bucket.end.rfc3339)]
        }
        guard request.format == .json else {
            return rows(
                report.lines.flatMap { line in
                    zip(buckets, line.values).map { $0.merging(line.identity).merging($1) }
                }, request)
        }
        let lines = report.lines.map { $0.identity.merging(["values": .array($0.values)]) }
        return .json(
            report.range.json.merging([
                "granularity": .string(report.granularity.rawValue), "buckets": .array(buckets),
                "series": .array(lines),
                "meta": meta,
            ]))
    }

    @Sendable private func breakdown(_ request: APIRequest) async throws -> APIResponse {
        let cursor = try BreakdownCursor(of: request)
        let (limit, group) = (request.integer("limit") ?? 10, request.text("group_by") ?? UsageGroup.model.rawValue)
        // It reads the calls of everybody: not many times at once for one user.
        let place = EventGroup(rawValue: group) == nil ? nil : try database.place(for: try request.user.id)
        defer { place?.leave() }
        let (report, meta) = try await report(request, continuing: cursor) { scope, range, snapshot in
            let report =
                if let ofCalls = EventGroup(rawValue: group) {
                    try EventBreakdown.read(
                        scope, range, by: ofCalls, after: cursor?.place, limit: limit, rankedBy: request.ranking,
                        snapshot)
                } else {
                    try UsageBreakdown(
                        scope, range, by: UsageGroup(rawValue: group) ?? .model, after: cursor?.place, limit: limit,
                        rankedBy: request.ranking, hasLatency: true, snapshot)
                }
            return (report, report.total)
        }
        let parts = report.parts.map(\.json)
        let others = report.others?.json
        let next = report.next.map { BreakdownCursor($0, report.range, request).text }
        guard request.format == .json else {
            var answer = rows(parts + (others.map { [$0] } ?? []), request)
            answer.headers[.link] = next.map { request.link(toPage: $0) }
            return answer
        }
        return .json(
            report.range.json.merging([
                "group_by": .string(group), "data": .array(parts), "others": others ?? .null,
                "total": report.total.json(UsageLatency()), "next_cursor": next.json, "meta": meta,
            ]))
    }

    /// What `read` makes of the question's scope and range, and the answer's `meta`, all of one state of the database.
    private func report<Report: Sendable>(
        _ request: APIRequest, continuing cursor: BreakdownCursor? = nil,
        _ read: @Sendable (UsageScope, ReportRange, UsageSnapshot) throws -> (report: Report, total: UsageSums)
    ) async throws -> (Report, JSON) {
        let subject = try request.subject
        let scope = UsageScope(
            user: subject, models: Set(request.texts("model") ?? []), providers: Set(request.texts("provider") ?? []),
            statuses: Set((request.texts("status") ?? []).compactMap(EventStatus.init(rawValue:))),
            plans: Set(request.texts("plan") ?? []))
        return try await database.read { connection in
            let asked = try Period.range(of: request, connection)
            let range = try cursor?.range(for: request, asking: asked) ?? asked
            return try UsageSnapshot.take(connection) { snapshot in
                let (report, total) = try read(scope, range, snapshot)
                let missing = try Quarantine.openCount(of: subject, from: range.from, to: range.to, connection)
                let meta: JSON = [
                    "as_of": .string(snapshot.asOf.rfc3339), "complete_through": .string(snapshot.asOf.rfc3339),
                    "quarantined": .integer(missing), "unpriced_requests": .integer(total.unpriced),
                ]
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
    var ranking: UsageRanking { text("order_by").flatMap(UsageRanking.init(rawValue:)) ?? .requests }
}

/// Where a page of a breakdown ended, and of which question it is one: its range is that of the first page, so that no page
/// skips to another day.
struct BreakdownCursor {
    let place: UsageBreakdown.Place
    private let from: Timestamp
    private let to: Timestamp
    private let question: String

    /// The cursor of the page that ended at `place`.
    init(_ place: UsageBreakdown.Place, _ range: ReportRange, _ request: APIRequest) {
        self.place = place
        (from, to, question) = (range.from, range.to, Self.question(of: request))
    }

    /// The cursor that `call` gives; `nil` where it gives none.
    ///
    /// - Throws: ``AppError`` `.invalid` for one of another grouping or order, and for one that no answer gives.
    init?(of request: APIRequest) throws {
        guard let text = request.text("cursor") else { return nil }
        let parts = try Cursor.decode(text, count: 5)
        question = Self.question(of: request)
        guard parts[0] == question, let from = Timestamp(rfc3339: parts[1]), let to = Timestamp(rfc3339: parts[2]),
            Self.isWeight(parts[3]), let weight = DecimalLiteral(parts[3])
        else { throw Cursor.invalid }
        (self.from, self.to) = (from, to)
        // A group without a name is not one whose name is empty.
        place = UsageBreakdown.Place(weight: weight, key: parts[4].isEmpty ? nil : String(parts[4].dropFirst()))
        guard request.text("group_by") != UsageGroup.user.rawValue || place.key.flatMap(Int64.init) != nil else {
            throw Cursor.invalid
        }
    }

    /// For a URL.
    var text: String {
        Cursor.encode([question, from.rfc3339, to.rfc3339, place.weight.text, place.key.map { "=" + $0 } ?? ""])
    }

    /// The range of the pages, which is what `call` asks for as far as it names one.
    ///
    /// - Throws: ``AppError`` `.invalid` where it names another.
    func range(for request: APIRequest, asking asked: ReportRange) throws -> ReportRange {
        guard request.text("from") == nil || asked.from == from, request.text("to") == nil || asked.to == to else {
            throw Cursor.invalid
        }
        return try ReportRange(from: from, to: to, zone: asked.zone)
    }

    /// Whether it is a sum as PostgreSQL writes it: plain digits, and not more of them than a sum ever has.
    private static func isWeight(_ text: String) -> Bool {
        text.utf8.count <= 60 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2E || $0 == 0x2D }
    }

    private static func question(of request: APIRequest) -> String {
        "\(request.text("group_by") ?? UsageGroup.model.rawValue) \(request.ranking.rawValue)"
    }
}

extension APIRequest {
    /// The header by which an answer without room for a cursor names the page behind it (RFC 8288).
    func link(toPage cursor: String) -> String {
        let others = (http.uri.query ?? "").split(separator: "&").filter { pair in
            FormField.parse(pair.utf8).first?.name != "cursor"
        }
        return "<\(http.uri.path)?\((others + ["cursor=\(cursor)"]).joined(separator: "&"))>; rel=\"next\""
    }
}

extension ReportRange {
    var json: JSON {
        ["from": .string(from.rfc3339), "to": .string(to.rfc3339), "timezone": .string(zone.name)]
    }
}

extension UsageSums {
    /// The sums with how long requests took; money as exact texts, and null where nobody knows a price.
    func json(_ latency: UsageLatency) -> JSON {
        [
            "requests": .integer(requests), "errors": .integer(errors), "rate_limited": .integer(rateLimited),
            "unpriced_requests": .integer(unpriced), "input_tokens": .integer(inputTokens),
            "output_tokens": .integer(outputTokens), "cached_tokens": .integer(cachedTokens),
            "reasoning_tokens": .integer(reasoningTokens), "total_tokens": .integer(tokens),
            "cost": (cost?.description).json, "ledger_cost": .string(laravelCost.description),
            "error_rate": errorRate.ratio,
            "average_duration_ms": averageDuration.milliseconds, "duration_ms": latency.duration.json,
            "time_to_first_token_ms": latency.firstToken.json,
        ]
    }
}

extension UsageLatency.Percentiles? {
    /// Always with its members, so that rows have the same columns.
    fileprivate var json: JSON {
        ["p50": (self?.p50).milliseconds, "p95": (self?.p95).milliseconds, "p99": (self?.p99).milliseconds]
    }
}

extension Double? {
    /// A JSON number, or null.
    var json: JSON { map { .number($0.jsonLiteral) } ?? .null }

    /// Milliseconds with at most two decimals, or null: a percentile is known to 2 %, and a call to a millisecond.
    var milliseconds: JSON { map { ($0 * 100).rounded() / 100 }.json }

    /// A ratio with at most six decimals, or null.
    var ratio: JSON { map { ($0 * 1_000_000).rounded() / 1_000_000 }.json }
}

extension UsageSeries.Line {
    var identity: JSON { ["key": key.json, "is_others": .bool(isOthers)] }

    /// One object for each bucket.
    var values: [JSON] {
        sums.indices.map { sums[$0].json(latencies.indices.contains($0) ? latencies[$0] : UsageLatency()) }
    }
}

extension UsageBreakdown.Part {
    var json: JSON { JSON.object(["key": key.json, "groups": 1, "share": share.ratio]).merging(sums.json(latency)) }
}

extension UsageBreakdown.Others {
    var json: JSON {
        JSON.object(["key": nil, "groups": .integer(groups), "share": share.ratio]).merging(sums.json(UsageLatency()))
    }
}

extension JSON {
    /// An object without objects inside: `{a: {b: 1}}` is `{a_b: 1}`.
    var flattened: JSON {
        .object(
            (members ?? []).flatMap { member -> [Member] in
                guard let inner = member.value.flattenable else { return [member] }
                return inner.map { Member("\(member.key)_\($0.key)", $0.value) }
            })
    }

    private var flattenable: [Member]? { if case .object(let members) = self { members } else { nil } }
}

extension Schema {
    private static let percentiles = object([
        "p50": optional(number), "p95": optional(number), "p99": optional(number),
    ])
    private static let sumMembers: [(String, JSON)] = [
        ("requests", integer), ("errors", integer), ("rate_limited", integer), ("unpriced_requests", integer),
        ("input_tokens", integer), ("output_tokens", integer), ("cached_tokens", integer),
        ("reasoning_tokens", integer),
        ("total_tokens", integer), ("cost", optional(money)), ("ledger_cost", money), ("error_rate", optional(number)),
        ("average_duration_ms", optional(number)), ("duration_ms", percentiles),
        ("time_to_first_token_ms", percentiles),
    ]

    static let sums = object(of: sumMembers)
    static let part = object(
        of: [("key", optional(string)), ("groups", integer), ("share", optional(number))] + sumMembers)
    static let meta = object([
        "as_of": time, "complete_through": time, "quarantined": integer, "unpriced_requests": integer,
    ])
}
