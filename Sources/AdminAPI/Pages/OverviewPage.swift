import Analytics
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import Storage

/// The customer's overview: what is left of the limits, the month against the month before, the last days, and the last
/// calls.
struct OverviewPage: Sendable {
    let database: Database
    let example: CallExample
    private let reads = SharedReads<PageQuestion, JSON>()

    /// The models that have a series of their own; the others are summed.
    private static let models = 6
    /// The calls that the page lists.
    private static let calls = 10

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        .page("overview", try await values(request, nil))
    }

    /// Asks for higher limits.
    @Sendable func requestLimits(_ request: PageRequest) async throws -> PageAnswer {
        let (period, reason) = (request.field("period"), request.field("reason"))
        do {
            _ = try await request.json("requestIncrease", body: ["period": period.json, "reason": reason.json])
            return .redirect("/overview?done=limits_requested")
        } catch {
            guard let refusal = FormRefusal(error, form: "limit_request") else { throw error }
            return .page("overview", try await values(request, refusal), status: refusal.status)
        }
    }

    private func values(_ request: PageRequest, _ refusal: FormRefusal?) async throws -> JSON {
        let user = try request.user
        let values = try await reads.answer(to: PageQuestion(of: user.id, request.reader)) {
            try await read(user.id, request.reader)
        }
        let form = PageForm("limit_request", of: request, refusal)
        let periods = QuotaPeriod.allCases.reversed().map(\.rawValue)
        let shown: JSON = [
            "problem": form.problem, "reason": form.field("reason"),
            "period": form.choice("period", of: periods, nil, kind: "limit_window"),
            "has_limits": .bool(!(values["limits"]?.elements ?? []).isEmpty),
            "has_requests": .bool(!(values["limit_requests"]?.elements ?? []).isEmpty),
            "logs_url": .string(request.prefix + "/logs"), "is_of_all_users": false,
            "done": request.done(["limits_requested"]),
        ]
        let isEmpty = values["has_calls"] == false
        return values.merging(shown).merging(isEmpty ? try await example.values(request) : [:])
    }

    /// What the database says to `reader` of the user.
    private func read(_ user: Int64, _ reader: Reader) async throws -> JSON {
        try await database.read { connection in
            let periods = try PagePeriods(reader, connection)
            return try ReportSnapshot.take(connection) { snapshot in
                let scope = UsageScope(user: user)
                let calls = try LogList.read(LogFilter(userID: user), by: .time, limit: Self.calls, connection)
                let entries = try LogEntries.read(calls.ids, connection)
                let limits = try LimitStatus.read(user, connection, now: reader.now)
                let requests = try LimitRequest.list(of: user, limit: 5, connection)
                return JSON.object([
                    "as_of": .string(snapshot.asOf.rfc3339),
                    "complete_through": try PageFigures.completeThrough(connection),
                    "has_calls": .bool(!calls.ids.isEmpty),
                    "limits": LimitMeters.json(LimitWindows(limits: limits, now: reader.now)),
                    "limit_requests": .array(requests.map(Self.json)),
                    "month": try Self.month(scope, periods, snapshot),
                    "series": try Self.lastDays(scope, periods, snapshot),
                    "calls": .array(entries.json),
                ])
            }
        }
    }

    private static func json(_ request: LimitRequest) -> JSON {
        let tone: JSON = request.answer?.isGranted == true ? "good" : "bad"
        return LimitRequest.json.json(request).merging([
            "limit_window": .string(request.period.rawValue), "answer_tone": tone,
        ])
    }

    /// This month, the same part of the month before, and the whole month before.
    private static func month(_ scope: UsageScope, _ periods: PagePeriods, _ snapshot: ReportSnapshot) throws -> JSON {
        // Side by side, so one statement reads them all.
        let part = [periods.monthBefore] + (periods.restOfMonthBefore.map { [$0] } ?? [])
        let months = try UsageSummary.Period.list(scope, part + [periods.month], on: snapshot)
        let current = months[part.count]
        let (now, then) = (current.sums, months[0].sums)
        let before = months[..<part.count].map(\.sums).reduce(UsageTotals(), +)
        return [
            "current": Usage.json.json(Usage(now, current.latency)), "compared": Usage.json.json(Usage(then)),
            "before": Usage.json.json(Usage(before)),
            "cost_change": change(PageFigures.dollars(now), PageFigures.dollars(then)),
            "tokens_change": change(Double(now.tokens), Double(then.tokens)),
            "requests_change": change(Double(now.requests), Double(then.requests)),
        ]
    }

    /// By which ratio a figure grew or shrank; null where it was zero before.
    private static func change(_ now: Double, _ before: Double) -> JSON {
        guard let ratio = PageFigures.growth(now, before) else { return .null }
        return [
            "ratio": .number(abs(ratio).jsonLiteral), "is_more": .bool(ratio > 0), "is_less": .bool(ratio < 0),
            "is_same": .bool(ratio == 0),
        ]
    }

    /// The last 30 days, with latencies.
    private static func lastDays(
        _ scope: UsageScope, _ periods: PagePeriods, _ snapshot: ReportSnapshot
    ) throws -> JSON {
        PageFigures.days(
            try UsageSeries.read(
                scope, periods.lastDays, every: .day, by: .model, limit: Self.models, rankedBy: .cost, on: snapshot),
            all: try UsageSeries.read(scope, periods.lastDays, every: .day, hasLatency: true, on: snapshot))
    }
}

/// The limits of ``LimitWindows``, as a page shows them: one meter for each amount that has a limit.
enum LimitMeters {
    /// A window for each period, with its meters.
    static func json(_ windows: LimitWindows) -> JSON {
        .array(
            (LimitWindows.json.json(windows).members ?? []).map { member in
                let (period, window) = (member.key, member.value)
                let meters = ["requests", "tokens", "budget"].compactMap { meter($0, window[$0] ?? .null, period) }
                return .object([
                    "limit_window": .string(period), "resets_at": window["resets_at"] ?? .null,
                    "is_own": window["is_own"] ?? .null, "meters": .array(meters),
                ])
            })
    }

    private static func meter(_ kind: String, _ amount: JSON, _ period: String) -> JSON? {
        guard amount != .null else { return nil }
        let percent = amount["percent"].flatMap { if case .number(let text) = $0 { Double(text) } else { nil } } ?? 0
        // Not by the percentage, which is rounded.
        let isOver = amount["remaining"] == 0 || amount["remaining"] == "0"
        return amount.merging([
            "name": .string("\(period)-\(kind)"), "kind": .string(kind), "is_budget": .bool(kind == "budget"),
            "filled": .number(min(100, max(0, percent)).jsonLiteral), "is_over": .bool(isOver),
            "is_lasting": .bool(!isOver && amount["exhausted_at"] == .null),
            "is_running_out": .bool(!isOver && amount["exhausted_at"] != .null),
            "tone": .string(isOver ? "over" : percent >= 80 ? "near" : "fine"),
        ])
    }
}

extension LogEntries {
    /// The logs as the API writes them.
    var json: [JSON] {
        (0..<count).compactMap { index in
            var bytes: [UInt8] = []
            LogLine.appendObject(self, index, to: &bytes)
            return JSON(parsing: bytes)
        }
    }
}
