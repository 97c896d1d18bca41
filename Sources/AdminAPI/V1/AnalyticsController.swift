import Domain
import HTTPSupport
import HTTPTypes
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
            .repeated("status", .choice(UsageStatus.allCases.map(\.rawValue)), "Ended in these ways."),
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

    @Sendable private func summary(_ call: Call) async throws -> Answer {
        let comparison = call.text("compare")
        let (report, meta) = try await report(call) { scope, range, snapshot in
            let compared = comparison == "year" ? try range.yearBefore(snapshot.connection) : nil
            let report = try UsageSummary(scope, range, comparedWith: compared, snapshot)
            return (report, report.current.sums)
        }
        let period = report.current
        let current = period.sums.json(period.latency)
        guard call.format == .json else { return rows([period.range.json.merging(current)], call) }
        let compared = comparison == nil ? nil : report.previous.map { $0.sums.json($0.latency) }
        return .json(
            period.range.json.merging(["current": current, "compared": compared ?? .null, "meta": meta]))
    }

    @Sendable private func series(_ call: Call) async throws -> Answer {
        let granularity = call.text("granularity").flatMap(Granularity.init(rawValue:))
        let group = call.text("group_by").flatMap(UsageGroup.init(rawValue:))
        let (report, meta) = try await report(call) { scope, range, snapshot in
            let report = try UsageSeries(
                scope, range, every: granularity, by: group, limit: call.integer("limit") ?? 10,
                rankedBy: call.ranking, hasLatency: true, snapshot)
            return (report, report.lines.flatMap(\.sums).reduce(UsageSums(), +))
        }
        let buckets = report.buckets.map { bucket -> JSON in
            ["start": .string(bucket.start.rfc3339), "end": .string(bucket.end.rfc3339)]
        }
        guard call.format == .json else {
            return rows(
                report.lines.flatMap { line in
                    zip(buckets, line.values).map { $0.merging(line.identity).merging($1) }
                }, call)
        }
        let lines = report.lines.map { $0.identity.merging(["values": .array($0.values)]) }
        return .json(
            report.range.json.merging([
                "granularity": .string(report.granularity.rawValue), "buckets": .array(buckets),
                "series": .array(lines),
                "meta": meta,
            ]))
    }

    @Sendable private func breakdown(_ call: Call) async throws -> Answer {
        let cursor = try BreakdownCursor(of: call)
        let (limit, group) = (call.integer("limit") ?? 10, call.text("group_by") ?? UsageGroup.model.rawValue)
        // It reads the calls of everybody: not many times at once for one user.
        let place = EventGroup(rawValue: group) == nil ? nil : try database.place(for: try call.user.id)
        defer { place?.leave() }
        let (report, meta) = try await report(call, continuing: cursor) { scope, range, snapshot in
            let report =
                if let ofCalls = EventGroup(rawValue: group) {
                    try EventBreakdown.read(
                        scope, range, by: ofCalls, after: cursor?.place, limit: limit, rankedBy: call.ranking, snapshot)
                } else {
                    try UsageBreakdown(
                        scope, range, by: UsageGroup(rawValue: group) ?? .model, after: cursor?.place, limit: limit,
                        rankedBy: call.ranking, hasLatency: true, snapshot)
                }
            return (report, report.total)
        }
        let parts = report.parts.map(\.json)
        let others = report.others?.json
        let next = report.next.map { BreakdownCursor($0, report.range, call).text }
        guard call.format == .json else {
            var answer = rows(parts + (others.map { [$0] } ?? []), call)
            answer.headers[.link] = next.map { call.link(toPage: $0) }
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
        _ call: Call, continuing cursor: BreakdownCursor? = nil,
        _ read: @Sendable (UsageScope, ReportRange, UsageSnapshot) throws -> (report: Report, total: UsageSums)
    ) async throws -> (Report, JSON) {
        let subject = try call.subject
        let scope = UsageScope(
            user: subject, models: Set(call.texts("model") ?? []), providers: Set(call.texts("provider") ?? []),
            statuses: Set((call.texts("status") ?? []).compactMap(UsageStatus.init(rawValue:))),
            plans: Set(call.texts("plan") ?? []))
        return try await database.read { connection in
            let asked = try Period.range(of: call, connection)
            let range = try cursor?.range(for: call, asking: asked) ?? asked
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

    private func rows(_ rows: [JSON], _ call: Call) -> Answer {
        let flat = rows.map(\.flattened)
        let columns = flat.first?.members?.map(\.key) ?? []
        return Answer(content: .text(call.format.text(columns, flat), type: call.format.contentType))
    }
}

extension Call {
    var ranking: UsageRanking { text("order_by").flatMap(UsageRanking.init(rawValue:)) ?? .requests }
}
