import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// The logs, page by page, one by one, and as CSV: the caller's own, or for operators those of all users.
struct LogPages: Sendable {
    let database: Database
    let isOfAllUsers: Bool

    /// The place of the list below the prefix.
    private var path: String { isOfAllUsers ? "/operator/logs" : "/logs" }

    private static let rows = 50
    /// The fields of the form, which are parameters of `listLogs` too.
    private static let filters = ["from", "to", "model", "status", "search", "min_cost", "user_id", "sort"]

    @Sendable func list(_ request: PageRequest) async throws -> PageAnswer {
        let cursor = request.query("cursor")
        do {
            let parameters = filter(request) + [("limit", "\(Self.rows)")] + (cursor.map { [("cursor", $0)] } ?? [])
            let page = try await request.json("listLogs", parameters)
            let complete = try await database.read { try PageFigures.completeThrough($0) }
            let values = values(request, page, try await named(page["data"]?.elements ?? []))
            return .page("logs", values.merging(["complete_through": complete]))
        } catch let error as ValidationError {
            let problem = error.fields.first.map { "logs_wrong_\($0.name)" } ?? "logs_wrong"
            return refusal(request, problem)
        } catch let error as AppError where error.code == .invalid {
            return refusal(request, error.cause.map { "logs_wrong_\($0.rawValue)" } ?? "logs_wrong")
        }
    }

    private func refusal(_ request: PageRequest, _ problem: String) -> PageAnswer {
        let values = values(request, .null, []).merging(["problem": .string(problem)])
        return .page("logs", values, status: .unprocessableContent)
    }

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        var log = try await request.json("getLog", [("id", request.pathPart("id"))])
        let user = try request.user.id
        guard isOfAllUsers || log["user_id"] == .integer(user) else {
            throw AppError(.notFound, "There is no such log.")
        }
        log = try await named([log])[0]
        // As texts, so that `label` finds the words for them.
        let shown = (log.members ?? []).map { member in
            if case .bool(let value) = member.value { return JSON.Member(member.key, .string("\(value)")) }
            return member
        }
        let lists = ["flags", "tags"].map { name in
            JSON.Member("has_\(name)", .bool(!(log[name]?.elements ?? []).isEmpty))
        }
        return .page(
            "log",
            [
                "log": .object(shown + lists), "logs_url": .string(request.prefix + path),
                "is_of_all_users": .bool(isOfAllUsers),
            ])
    }

    /// The API's export, as a file.
    @Sendable func export(_ request: PageRequest) async throws -> PageAnswer {
        let parameters = filter(request).filter { $0.0 != "sort" }
        let export = try await request.ask("listLogs", parameters, as: .csv)
        var response = export.response(to: request.http, vary: [.cookie])
        response.headers[.contentDisposition] = "attachment; filename=\"codexflow-logs.csv\""
        response.headers[.cacheControl] = "no-store"
        return .response(response)
    }

    /// The parameters of `listLogs` that the form's fields mean. A range of days has its last day, as people count.
    private func filter(_ request: PageRequest) -> [(String, String)] {
        var parameters = request.query(Self.filters.filter { $0 != "user_id" || isOfAllUsers })
        parameters = parameters.map { name, value in
            guard name == "to", let day = CalendarDate(value) else { return (name, value) }
            return (name, "\(CalendarDate(daysSince1970: day.daysSince1970 + 1))")
        }
        if !isOfAllUsers, let user = request.caller?.user.id { parameters.append(("user_id", "\(user)")) }
        return parameters + [("timezone", request.reader.zoneName)]
    }

    /// The logs, for operators with the names of their users.
    private func named(_ logs: [JSON]) async throws -> [JSON] {
        guard isOfAllUsers else { return logs }
        let names = try await database.names(ofUsersIn: logs, "user_id")
        return logs.map(names.adding(to:))
    }

    private func values(_ request: PageRequest, _ page: JSON, _ logs: [JSON]) -> JSON {
        return [
            "filter": .object(Self.filters.map { .init($0, request.query($0).json) }), "calls": .array(logs),
            "next": request.next(of: page, keeping: Self.filters), "filter_query": request.link(keeping: Self.filters),
            "first": request.query("cursor") == nil ? .null : request.link(keeping: Self.filters),
            "has_filter": .bool(!request.query(Self.filters).isEmpty), "has_calls": .bool(!logs.isEmpty),
            "logs_url": .string(request.prefix + path), "is_of_all_users": .bool(isOfAllUsers),
            "statuses": FormOption.list(
                EventStatus.allCases.map(\.rawValue), request.query("status"), kind: "status"),
            "orders": FormOption.list(["time", "cost", "duration"], request.query("sort"), kind: "order"),
            "problem": .null,
        ]
    }
}
