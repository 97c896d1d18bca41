import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// The operator's page of requests for higher limits.
struct LimitRequestPages: Sendable {
    let database: Database

    private static let path = "/operator/requests"

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer { try await page(request, nil) }

    @Sendable func answer(_ request: PageRequest) async throws -> PageAnswer {
        let (id, answer) = (request.field("id") ?? "", request.field("answer"))
        do {
            // Without an answer the operation says that there is none.
            let isGranted: JSON = answer == "granted" ? true : answer == "refused" ? false : .null
            let answered = try await request.json(
                "answerLimitRequest", [("id", id)], body: ["granted": isGranted, "note": request.field("note").json])
            let user = answered["user_id"]?.wholeNumber ?? 0
            return .redirect("\(Self.path)?done=request_\(answer ?? "")&user=\(user)")
        } catch {
            guard let refusal = FormRefusal(error, form: "answer", subject: id) else { throw error }
            return try await page(request, refusal)
        }
    }

    private func page(_ request: PageRequest, _ refusal: FormRefusal?) async throws -> PageAnswer {
        let open = try await request.json(
            "listLimitRequests", request.query(["cursor"]) + [("open", "true"), Self.page])
        let before = request.query("before").map { [("cursor", $0)] } ?? []
        let all = try await request.json("listLimitRequests", before + [Self.page])
        let (unanswered, answered) = (open["data"]?.elements ?? [], (all["data"]?.elements ?? []).filter(\.isAnswered))
        let names = try await database.names(ofUsersIn: unanswered + answered, "user_id")
        let forms = unanswered.map { wish in
            let subject = wish["id"]?.wholeNumber.map { "\($0)" }
            let form = PageForm("answer", changing: subject, of: request, refusal)
            return names.adding(to: wish.withLimitPeriod).merging([
                "problem": form.problem, "granted": form.field("granted", id: "answer-\(subject ?? "")"),
                "note": form.field("note", id: "note-\(subject ?? "")"),
            ])
        }
        let isShown = forms.contains { $0["id"]?.wholeNumber.map { "\($0)" } == refusal?.subject }
        return .page(
            "requests",
            [
                "done": request.done(["request_granted", "request_refused"]),
                "granted_user": request.query("done") == "request_granted"
                    ? request.query("user").flatMap { Int64($0) }.json : .null,
                "problem": isShown ? .null : (refusal?.whole).json, "open": .array(forms),
                "has_none": .bool(forms.isEmpty),
                "answered": .array(answered.map { names.adding(to: $0.withLimitPeriod) }),
                "next": request.next(of: open, keeping: ["before"]),
                "next_answered": request.next(of: all, "before", keeping: ["cursor"]),
            ], status: refusal?.status ?? .ok)
    }

    private static let page = ("limit", "50")
}

/// The names of users whom a list states by their ids.
struct UserNames: Sendable {
    fileprivate let member: String
    fileprivate let names: [Int64: String]

    /// `row` with the member `user_name`, null for a user who does not exist any more.
    func adding(to row: JSON) -> JSON {
        row.merging(["user_name": row[member]?.wholeNumber.flatMap { names[$0] }.json ?? .null])
    }
}

extension Database {
    /// The names of the users whose ids are the values of `member` in `rows`.
    ///
    /// - Throws: As ``read(_:)``.
    func names(ofUsersIn rows: [JSON], _ member: String) async throws -> UserNames {
        let users = Set(rows.compactMap { $0[member]?.wholeNumber })
        return UserNames(member: member, names: try await read { try UserAccounts.names(of: Array(users), $0) })
    }
}

extension JSON {
    fileprivate var isAnswered: Bool { self["answer"] != .null }

    /// A request with its period under the name by which texts call it.
    fileprivate var withLimitPeriod: JSON { merging(["limit_period": self["period"] ?? .null]) }
}
