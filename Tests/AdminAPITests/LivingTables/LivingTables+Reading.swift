import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Postgres
import Storage
import TestSupport

@testable import AdminAPI

extension LivingTables {
    /// Some answers after a step.
    func readAnything() async throws {
        let rows = try await rows()
        guard let user = users.randomElement(using: &random) else { return }
        try await readPages(of: user, rows)
        try await readList(of: isOneOf(2) ? user : nil, rows)
        if isOneOf(2) { try await readExport(of: isOneOf(2) ? user : nil, rows) }
        if isOneOf(4) { try await readLaravelExport(of: user) }
        try await readDetails(rows)
        try await readSums(of: isOneOf(2) ? user : nil, rows)
        if isOneOf(3) { try await readOthers(of: user) }
    }

    /// Every answer about a user, or about all.
    func readEverything(of user: Int64?) async throws {
        let rows = try await rows()
        if let user {
            for _ in 0..<3 { try await readPages(of: user, rows) }
            try await readLaravelExport(of: user)
            try await readOthers(of: user)
        }
        for _ in 0..<3 { try await readList(of: user, rows) }
        try await readExport(of: user, rows)
        try await readSums(of: user, rows)
    }

    /// Asks as `user`, or as the administrator. A fault of ours is a mismatch wherever it is seen, and no answer.
    private func ask(
        _ path: String, as user: Int64?, accepting type: String? = nil
    ) async throws -> AdminBench.Answer? {
        var headers: HTTPFields = [:]
        if let type { headers[.accept] = type }
        let answer = try await bench.send(.get, path, as: tokens[user ?? Self.admin], headers: headers)
        let route = path.prefix { $0 != "?" }.split(separator: "/").filter { Int($0) == nil }.joined(separator: "/")
        expect(answer.status < 500, "\(answer.status) of /\(route)", "\(path): \(answer)")
        return answer.status < 500 ? answer : nil
    }

    /// The ids that a plain query finds, in its order.
    private func ids(where condition: String, by order: String = "created_at DESC, id DESC") async throws -> [Int64] {
        try await pool.withConnection { connection in
            try connection.query(
                Query(unsafeSQL: "SELECT id FROM public.api_logs WHERE \(condition) ORDER BY \(order)")
            ).map { try $0.decode(0) }
        }
    }

    private func sorted(_ ids: [Int64], without others: Set<Int64>) -> [Int64] { ids.filter { !others.contains($0) } }

    // MARK: Lists

    /// Laravel's numbered pages, all of them and one more.
    private func readPages(of user: Int64, _ rows: [LivingModel.Row]) async throws {
        let size = [10, 37, 100].randomElement(using: &random) ?? 10
        let (query, condition) =
            [
                ("", "true"), ("", "true"), ("&model=gpt-4", "model = 'gpt-4'"), ("&status=error", "status = 'error'"),
                (
                    "&date_from=2026-11-01&date_to=2026-11-22",
                    "created_at >= '2026-11-01' AND created_at < '2026-11-23'"
                ),
            ].randomElement(using: &random) ?? ("", "true")
        let expected = try await ids(where: "user_id = \(user) AND \(condition)")
        var (found, totals): ([Int64], Set<Int64>) = ([], [])
        for page in 1...(expected.count / size + 2) {
            guard let answer = try await ask("/api/usage/logs?per_page=\(size)&page=\(page)\(query)", as: user)
            else { return }
            found += (answer.json?["data"]?.elements ?? []).compactMap { $0["id"]?.wholeNumber }
            totals.insert(answer.json?["total"]?.wholeNumber ?? -1)
        }
        expect(
            found == expected && totals == [Int64(expected.count)], "numbered pages",
            "\(query) of user \(user), \(size) a page: totals \(totals) and \(found.count) rows, "
                + "not \(expected.count); \(Self.difference(found, expected))")
    }

    private struct Asked {
        var query: String
        var condition: String
        var isBounded = false
    }

    private func question(of user: Int64?) -> Asked {
        var asked = Asked(
            query: user.map { "&user_id=\($0)" } ?? "", condition: user.map { "user_id = \($0)" } ?? "true")
        if isOneOf(2) {
            let from = Int.random(in: 1...28, using: &random)
            let to = Int.random(in: from...30, using: &random)
            asked.query += "&from=2026-11-\(Self.two(from))&to=2026-11-\(Self.two(to))"
            asked.condition += " AND created_at >= '2026-11-\(from)' AND created_at < '2026-11-\(to)'"
            asked.isBounded = true
        }
        let filters = [
            ("", "true"), ("", "true"), ("&model=gpt-4&model=claude", "model IN ('gpt-4', 'claude')"),
            ("&status=error", "status = 'error'"), ("&min_duration=40", "response_time_ms >= 40"),
            ("&search=bOOM", "error_message LIKE 'Boom%'"),
        ]
        let (query, condition) = filters.randomElement(using: &random) ?? ("", "true")
        asked.query += query
        asked.condition += " AND \(condition)"
        return asked
    }

    private static func two(_ day: Int) -> String { day < 10 ? "0\(day)" : "\(day)" }

    /// A list page after page by its cursor; of a user, or of all.
    private func readList(of user: Int64?, _ rows: [LivingModel.Row]) async throws {
        let asked = question(of: user)
        let sorts = asked.isBounded || user != nil ? ["time", "time", "cost", "duration"] : ["time"]
        let sort = sorts.randomElement(using: &random) ?? "time"
        let order = ["cost": "total_cost", "duration": "response_time_ms"][sort] ?? "created_at"
        let expected = try await ids(where: asked.condition, by: "\(order) DESC, id DESC")
        let size = [7, 40, 1_000].randomElement(using: &random) ?? 40
        let path = "/api/v1/logs?limit=\(size)&sort=\(sort)\(asked.query)"
        var (found, cursor): ([Int64], String?) = ([], nil)
        repeat {
            guard let answer = try await ask(path + (cursor.map { "&cursor=\($0)" } ?? ""), as: user) else { return }
            guard answer.status == 200 else {
                expect(false, Self.kind("list", user, asked), "\(path): \(answer)")
                return
            }
            for entry in answer.json?["data"]?.elements ?? [] {
                found.append(entry["id"]?.wholeNumber ?? -1)
                check(entry, rows)
            }
            cursor = answer.json?["next_cursor"]?.text
        } while cursor != nil && found.count <= expected.count
        compare(found, expected, Self.kind("list by \(sort)", user, asked), path, rows, isByCost: sort == "cost")
    }

    private static func kind(_ what: String, _ user: Int64?, _ asked: Asked) -> String {
        "\(what) of \(user == nil ? "all users" : "a user")\(asked.isBounded ? " in a range" : "")"
    }

    /// Every row once and in order. Where a cost is none, its place is open.
    private func compare(
        _ found: [Int64], _ expected: [Int64], _ kind: String, _ path: String, _ rows: [LivingModel.Row], isByCost: Bool
    ) {
        let unpriced = Set(rows.filter { isByCost && $0.fact.picodollars == nil }.map(\.id))
        let isRight =
            found.count == expected.count && Set(found) == Set(expected)
            && sorted(found, without: unpriced) == sorted(expected, without: unpriced)
        expect(isRight, kind, "\(path): \(Self.difference(found, expected))")
    }

    private static func difference(_ found: [Int64], _ expected: [Int64]) -> String {
        let (few, many) = (Set(found), Set(expected))
        let place = zip(found, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
        return """
            \(found.count) rows, \(found.count - few.count) twice, \
            missing \(many.subtracting(few).sorted().prefix(9)), \
            surplus \(few.subtracting(many).sorted().prefix(9)), first other place \(place.map(String.init) ?? "none")
            """
    }

    /// The same list in one answer.
    private func readExport(of user: Int64?, _ rows: [LivingModel.Row]) async throws {
        let asked = question(of: user)
        let path = "/api/v1/logs?" + asked.query.dropFirst()
        let kind = Self.kind("export", user, asked)
        guard let answer = try await ask(path, as: user, accepting: "application/x-ndjson") else { return }
        guard answer.status == 200 else {
            expect(false, kind, "\(path): \(answer)")
            return
        }
        let lines = answer.body.split(whereSeparator: \.isNewline).compactMap { JSON(parsing: Array($0.utf8)) }
        let found = lines.compactMap { $0["id"]?.wholeNumber }
        compare(found, try await ids(where: asked.condition), kind, path, rows, isByCost: false)
        for entry in lines.dropLast() { check(entry, rows) }
        expect(lines.last?["total"]?["rows"]?.wholeNumber == Int64(found.count), kind, "its last line is wrong")
    }

    private func readLaravelExport(of user: Int64) async throws {
        guard let answer = try await ask("/api/usage/export", as: user) else { return }
        let found = answer.body.split(whereSeparator: \.isNewline).dropFirst()
            .compactMap { Int64($0.split(separator: ",", omittingEmptySubsequences: false)[5]) }
        let expected = try await pool.withConnection { connection in
            try connection.query(
                """
                SELECT response_time_ms::bigint FROM public.api_logs WHERE user_id = \(user)
                ORDER BY created_at DESC, id DESC
                """
            ).map { try $0.decode(0, as: Int64.self) }
        }
        expect(found == expected, "Laravel's export", Self.difference(found, expected))
    }

    // MARK: Details

    private func readDetails(_ rows: [LivingModel.Row]) async throws {
        for row in (0..<3).compactMap({ _ in rows.randomElement(using: &random) }) {
            guard let answer = try await ask("/api/v1/logs/\(row.id)", as: nil) else { continue }
            guard let entry = answer.json, answer.status == 200 else {
                expect(false, "detail", "\(answer)")
                continue
            }
            check(entry, rows)
        }
        let gone = (rows.last?.id ?? 0) + 1_000_000
        let answer = try await ask("/api/v1/logs/\(gone)", as: nil)
        expect(answer == nil || answer?.status == 404, "detail", "\(gone) is no row")
    }

    /// An entry is of its own row: of an event it has that event's facts, of every other row none.
    private func check(_ entry: JSON, _ rows: [LivingModel.Row]) {
        guard let row = rows.first(where: { $0.id == entry["id"]?.wholeNumber }) else { return }
        let (name, endUser) = ("t\(row.token)", entry["end_user"]?.text)
        let shown = ["user_id", "end_user", "event_key", "deployment", "provider", "duration_ms", "cost"]
        let text =
            "log \(row.id), token \(row.token) of user \(row.fact.user): "
            + shown.map { "\($0) \(entry[$0]?.scalarText ?? "null")" }.joined(separator: ", ")
        expect(entry["user_id"]?.wholeNumber == row.fact.user, "facts", text)
        guard let event = model.events[row.token] else {
            let hasFacts = ["end_user", "event_key", "deployment", "provider"].contains { entry[$0] != .null }
            expect(!hasFacts, "facts of another row", text)
            expect(entry["duration_ms"]?.wholeNumber == row.token, "facts of another row", text)
            return
        }
        expect(endUser == name || (event.isTouched && endUser == nil), "facts of an event", text)
        guard endUser == name else { return }
        let cost = entry["cost"]?.text.flatMap { DecimalLiteral($0)?.scaled(by: 12) }
        expect(
            entry["event_key"]?.text == event.event.key.description && entry["duration_ms"]?.wholeNumber == row.token
                && entry["deployment"]?.text == "d/\(row.token)" && cost == event.fact.picodollars,
            "facts of an event", text)
    }

    // MARK: Sums

    /// Summary, breakdown and time series of whole days, which a plain query over the model's facts gives too.
    private func readSums(of user: Int64?, _ rows: [LivingModel.Row]) async throws {
        guard !awaitsPass, !isUnknown(user, rows) else { return }
        let from = Int64.random(in: 20_720...20_785, using: &random)
        let to = Int64.random(in: (from + 1)...20_790, using: &random)
        let facts = model.facts(rows).filter { fact in
            (user.map { $0 == fact.user } ?? !fact.isSelfReported) && (from * 96..<to * 96).contains(fact.quarter)
        }
        let text: (Int64) -> String = { CalendarDate(daysSince1970: $0).description }
        let range = "from=\(text(from))&to=\(text(to))" + (user.map { "&user_id=\($0)" } ?? "")
        let kind = "of \(user == nil ? "all users" : "a user")"
        guard let summary = try await ask("/api/v1/analytics/summary?\(range)", as: nil) else { return }
        compare(summary.json?["current"], facts, "summary \(kind)", range)
        let group = ["model", "status"].randomElement(using: &random) ?? "model"
        guard let breakdown = try await ask("/api/v1/analytics/breakdown?\(range)&group_by=\(group)", as: nil)
        else { return }
        let parts = Dictionary(grouping: facts) { group == "model" ? $0.model : $0.status }
        let data = breakdown.json?["data"]?.elements ?? []
        expect(
            data.map { $0["key"]?.text ?? "" }.sorted() == parts.keys.sorted(), "breakdown \(kind)",
            "\(range): \(parts.keys.sorted()) are \(breakdown)")
        for part in data {
            compare(part, parts[part["key"]?.text ?? ""] ?? [], "breakdown \(kind)", "\(range)&group_by=\(group)")
        }
        compare(breakdown.json?["total"], facts, "total of a breakdown \(kind)", range, hasPercentiles: false)
        guard let series = try await ask("/api/v1/analytics/timeseries?\(range)&granularity=day", as: nil)
        else { return }
        let days = Dictionary(grouping: facts) { Int($0.quarter / 96 - from) }
        let values = series.json?["series"]?.elements?.first?["values"]?.elements ?? []
        expect(values.count == Int(to - from), "time series \(kind)", "\(range): \(values.count) days")
        for (day, value) in values.enumerated() { compare(value, days[day] ?? [], "time series \(kind)", range) }
    }

    private func compare(
        _ json: JSON?, _ facts: [LivingModel.Fact], _ kind: String, _ question: String, hasPercentiles: Bool = true
    ) {
        let sums = LivingSums(facts)
        let differences = sums.differences(from: json, hasPercentiles: hasPercentiles)
        expect(
            differences.isEmpty, kind,
            "\(question): \(differences), of \(sums), are \(json.map { String(describing: $0) } ?? "nothing")")
    }

    /// Whether imported rows make the sums of `user` unknown until a rebuild.
    private func isUnknown(_ user: Int64?, _ rows: [LivingModel.Row]) -> Bool {
        rows.contains { model.imported.contains($0.token) && (user == nil || $0.fact.user == user) }
    }

    // MARK: The rest

    /// Routes whose answers others prove; they are answers, whatever is in the tables.
    func readOthers(of user: Int64) async throws {
        let own = [
            "/api/dashboard/stats", "/api/dashboard/usage", "/api/usage/analytics", "/api/rate-limits", "/api/v1/me",
            "/api/v1/analytics/breakdown?group_by=end_user", "/api/v1/analytics/summary?compare=previous",
            "/api/v1/analytics/timeseries?granularity=auto&group_by=model&from=2026-01-01&to=2027-01-01",
        ]
        let all = [
            "/api/v1/admin/totals", "/api/v1/admin/users", "/api/v1/admin/ledger/status",
            "/api/v1/admin/ledger/verify?from=2026-11-01&to=2026-12-01",
            "/api/v1/admin/users/\(user)", "/api/v1/admin/quarantine", "/api/v1/analytics/breakdown?group_by=user",
            "/api/v1/analytics/summary?from=1970-01-01&to=1970-01-02",
            "/api/v1/logs?user_id=\(user)&sort=cost&min_cost=0",
        ]
        for (path, asking) in [(own.randomElement(using: &random), user), (all.randomElement(using: &random), nil)] {
            guard let path else { continue }
            guard let answer = try await ask(path, as: asking) else { continue }
            expect(answer.status == 200, "\(path.split(separator: "?")[0])", "\(path): \(answer)")
        }
    }
}
