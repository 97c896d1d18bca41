import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage

/// The operator's pages of users: the list, one user, and the forms that change them by the API's own operations.
struct UserPages: Sendable {
    let database: Database

    /// Users on a page.
    private static let listed = 50
    /// Rows of the audit trail.
    private static let trail = 10
    private static let models = 6
    private static let filters = ["search", "plan", "status", "sort", "order"]
    /// What a form did, as `?done=` says it.
    private static let deeds = ["user_changed", "user_suspended", "user_activated", "limits_changed"]

    @Sendable func list(_ request: PageRequest) async throws -> PageAnswer {
        .page("users", try await listValues(request, nil))
    }

    /// Creates a user. The answer is the new user's page, which shows the key this once.
    @Sendable func create(_ request: PageRequest) async throws -> PageAnswer {
        do {
            let user = try await request.json("createUser", body: UserForm.newUser(request))
            let id = user["id"].map { "\($0.wholeNumber ?? 0)" } ?? ""
            return await page(of: id, newKey: user["api_key"], request, status: .created)
        } catch {
            guard let refusal = FormRefusal(error, form: "create") else { throw error }
            return .page("users", try await listValues(request, refusal), status: refusal.status)
        }
    }

    /// The user's page with a new key. The key alone, if the rest cannot be read: nobody can show it again.
    private func page(
        of id: String, newKey key: JSON?, _ request: PageRequest, status: HTTPResponse.Status = .ok
    ) async -> PageAnswer {
        if let values = try? await values(request, id, newKey: key?.text) {
            return .page("user", values, status: status)
        }
        return .page("new-key", ["new_key": key ?? .null], status: status)
    }

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        .page("user", try await values(request, request.pathPart("id")))
    }

    /// Does what the form's field `change` names.
    @Sendable func change(_ request: PageRequest) async throws -> PageAnswer {
        let id = request.pathPart("id")
        let change = request.field("change") ?? ""
        do {
            switch change {
            case "profile":
                _ = try await request.json("updateUser", [("id", id)], body: UserForm.profile(request))
                return done("user_changed", id)
            case "suspend":
                _ = try await request.json("suspendUser", [("id", id)])
                return done("user_suspended", id)
            case "activate":
                _ = try await request.json("activateUser", [("id", id)])
                return done("user_activated", id)
            case "limits":
                _ = try await request.json("setUserLimits", [("id", id)], body: UserForm.limits(request))
                return done("limits_changed", id)
            case "key":
                let user = try await request.json("setUserKey", [("id", id)])
                return await page(of: id, newKey: user["api_key"], request)
            default: throw AppError(.invalid, "The form names no change.")
            }
        } catch {
            guard let refusal = FormRefusal(error, form: change) else { throw error }
            return .page("user", try await values(request, id, after: refusal), status: refusal.status)
        }
    }

    private func done(_ deed: String, _ id: String) -> PageAnswer { .redirect("/operator/users/\(id)?done=\(deed)") }
}

// The values of the list.
extension UserPages {
    private func listValues(_ request: PageRequest, _ refusal: FormRefusal?) async throws -> JSON {
        let given = request.query(Self.filters + ["cursor"])
        let page = try await request.json("listUsers", given + [("limit", "\(Self.listed)")])
        let users = page["data"]?.elements ?? []
        let (usage, asOf, complete) = try await monthly(users.compactMap { $0["id"]?.wholeNumber }, request.reader)
        let filters = given.filter { $0.0 != "cursor" }
        func value(_ name: String) -> String? { filters.last { $0.0 == name }?.1 }
        return [
            "as_of": .string(asOf.rfc3339), "complete_through": complete, "search": value("search").json,
            "plans": FormOption.list(UserForm.plans, value("plan")),
            "statuses": FormOption.list(UserForm.statuses, value("status"), kind: "status"),
            "sorts": FormOption.list(UserDirectory.Sort.allCases.map(\.rawValue), value("sort") ?? "id", kind: "sort"),
            "orders": FormOption.list(["asc", "desc"], value("order") ?? "asc", kind: "order"),
            "is_filtered": .bool(["search", "plan", "status"].contains { value($0) != nil }),
            "users": .array(users.map { $0.merging(["usage": usage[$0["id"]?.wholeNumber ?? 0] ?? .null]) }),
            "has_users": .bool(!users.isEmpty),
            "next": request.next(of: page, keeping: Self.filters),
            "first": request.query("cursor") == nil ? .null : request.link(keeping: Self.filters),
            "create": UserForm.creation(PageForm("create", of: request, refusal)),
        ]
    }

    /// What each of these users has used since the first of the month, as the overview counts it; as of when, and
    /// through when that is complete.
    private func monthly(_ users: [Int64], _ reader: Reader) async throws -> ([Int64: JSON], Timestamp, JSON) {
        try await database.read { connection in
            let month = try PagePeriods(reader, connection).month
            let complete = try PageFigures.completeThrough(connection)
            return try ReportSnapshot.take(connection) { snapshot in
                guard !users.isEmpty else { return ([:], snapshot.asOf, complete) }
                var scope = UsageScope.allUsers
                scope.users = users
                let report = try UsageBreakdown.read(scope, month, by: .user, limit: users.count, on: snapshot)
                let usage = report.groups.map { (Int64($0.key ?? "") ?? 0, Usage.json.json(Usage($0.sums))) }
                return (Dictionary(usage) { first, _ in first }, snapshot.asOf, complete)
            }
        }
    }
}

// The values of one user's page.
extension UserPages {
    /// What a user's page shows, after `refusal` of one of its forms.
    private func values(
        _ request: PageRequest, _ id: String, newKey: String? = nil, after refusal: FormRefusal? = nil
    ) async throws -> JSON {
        let user = try await request.json("getUser", [("id", id)])
        guard let number = user["id"]?.wholeNumber else { throw AppError(.notFound, "There is no such user.") }
        let (own, figures) = try await figures(of: number, request.reader)
        return [
            "as_of": figures["as_of"] ?? .null, "complete_through": figures["complete_through"] ?? .null,
            "month": figures["month"] ?? .null,
            "series": figures["series"] ?? .null, "user": user, "new_key": newKey.json,
            "problem": (refusal?.whole).json, "windows": Self.windows(user["limits"] ?? .null, own),
            "has_calls": .bool(user["recent_logs"]?.elements?.isEmpty == false),
            "models": own.models.map { .array($0.map { ["name": .string($0)] }) } ?? .null,
            "may_all_models": .bool(own.models == nil), "trail": .array(try await trail(request, number)),
            "is_suspended": .bool(user["status"] == "suspended"), "is_deleted": user["is_deleted"] ?? .null,
            "profile": UserForm.profile(PageForm("profile", of: request, refusal), of: user),
            "own": UserForm.limits(PageForm("limits", of: request, refusal), of: own),
            "done": request.done(Self.deeds),
        ]
    }

    private func figures(of user: Int64, _ reader: Reader) async throws -> (OwnLimits, JSON) {
        try await database.read { connection in
            let periods = try PagePeriods(reader, connection)
            let figures: JSON = try ReportSnapshot.take(connection) { snapshot in
                let month = try UsageSummary.read(
                    .user(user), periods.month, comparedWith: periods.monthBefore, on: snapshot)
                let days = try UsageSeries.read(
                    .user(user), periods.lastDays, every: .day, by: .model, limit: Self.models, rankedBy: .cost,
                    on: snapshot)
                return [
                    "as_of": .string(snapshot.asOf.rfc3339), "series": PageFigures.days(days),
                    "month": PageFigures.summary(month, asOf: snapshot.asOf),
                ]
            }
            let complete: JSON = ["complete_through": try PageFigures.completeThrough(connection)]
            return (try OwnLimits.read(user, connection, now: reader.now), figures.merging(complete))
        }
    }

    /// The API's limits and the budget, a row for each amount.
    private static func windows(_ limits: JSON, _ own: OwnLimits) -> JSON {
        .array(
            own.windows.map { window in
                let limit = limits[window.period.rawValue] ?? .null
                var rows = ["requests", "tokens"].compactMap { name in
                    limit[name].map { row(name, $0["used"], $0["limit"], $0["exhausted_at"]) }
                }
                if let budget = window.budget { rows.append(row("budget", .string(window.cost), .string(budget), nil)) }
                return [
                    "window": .string("window_\(window.period.rawValue)"), "period": .string(window.period.rawValue),
                    "resets_at": limit["resets_at"] ?? .null,
                    "is_own": limit["is_own"] ?? .null, "rows": .array(rows), "is_free": .bool(rows.isEmpty),
                ]
            })
    }

    private static func row(_ measure: String, _ used: JSON?, _ limit: JSON?, _ exhaustion: JSON?) -> JSON {
        let (amount, most) = (Double(used?.scalarText ?? "") ?? 0, Double(limit?.scalarText ?? "") ?? 0)
        let ratio = most > 0 ? amount / most : 1
        return [
            "measure": .string(measure), "is_budget": .bool(measure == "budget"), "used": used ?? .null,
            "limit": limit ?? .null,
            "ratio": .number(((ratio * 10_000).rounded() / 10_000).jsonLiteral), "exhausted_at": exhaustion ?? .null,
            "is_near": .bool(ratio >= 0.8 && ratio < 1), "is_over": .bool(ratio >= 1),
        ]
    }

    /// The last changes of the user and of the user's limits, newest first.
    private func trail(_ request: PageRequest, _ user: Int64) async throws -> [JSON] {
        var entries: [JSON] = []
        for subject in ["user", "user_limits"] {
            let page = try await request.json(
                "listAuditLog",
                [("subject", subject), ("subject_id", "\(user)"), ("limit", "\(Self.trail)")])
            entries += page["data"]?.elements ?? []
        }
        let latest = entries.sorted { ($0["id"]?.wholeNumber ?? 0) > ($1["id"]?.wholeNumber ?? 0) }.prefix(Self.trail)
        let actors = try await database.names(ofUsersIn: Array(latest), "actor_id")
        return latest.map { entry in
            actors.adding(to: entry).merging([
                "is_command_line": .bool(entry["actor_id"] == 0),
                "changes": .array(Self.changes(from: entry["before"] ?? .null, to: entry["after"] ?? .null)),
            ])
        }
    }

    private static func changes(from before: JSON, to after: JSON) -> [JSON] {
        let (before, after) = (before.values(), after.values())
        var seen: Set<String> = []
        return (before + after).map(\.key).filter { seen.insert($0).inserted }.compactMap { name in
            let (old, new) = (before.first { $0.key == name }?.value, after.first { $0.key == name }?.value)
            return old == new ? nil : ["name": .string(name), "before": old ?? .null, "after": new ?? .null]
        }
    }
}

extension JSON {
    /// The members as texts; those of an inner object after its name, and none that is null.
    fileprivate func values(after name: String = "") -> [Member] {
        (members ?? []).flatMap { member in
            if case .object = member.value { return member.value.values(after: "\(name)\(member.key) ") }
            return member.value == .null ? [] : [Member(name + member.key, .string(member.value.words))]
        }
    }

    /// The value as people write it: a list with commas, a decimal number without zeros at its end.
    private var words: String {
        switch self {
        case .array(let elements): elements.map(\.words).joined(separator: ", ")
        case .number(let text) where text.contains("."): text.withoutZerosAtTheEnd
        case .bool(let value): "\(value)"
        default: scalarText ?? ""
        }
    }
}

extension String {
    fileprivate var withoutZerosAtTheEnd: String {
        let digits = String(reversed().drop { $0 == "0" }.reversed())
        return digits.hasSuffix(".") ? String(digits.dropLast()) : digits
    }
}
