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
        let (id, isGranted) = (request.field("id") ?? "", request.field("answer") == "granted")
        do {
            guard isGranted || request.field("answer") == "refused" else {
                throw FormRefusal(form: "answer", subject: id, problems: [FormRefusal.whole: "invalid_granted"])
            }
            let answered = try await request.json(
                "answerLimitRequest", [("id", id)],
                body: ["granted": .bool(isGranted), "note": request.field("note").json])
            let user = answered["user_id"]?.wholeNumber ?? 0
            return .redirect("\(Self.path)?done=request_\(isGranted ? "granted" : "refused")&user=\(user)")
        } catch {
            let known = error as? FormRefusal
            let explained = FormRefusal(
                error, form: "answer", subject: id, causes: [.conflict: "request_answered_before"])
            guard let refusal = known ?? explained else { throw error }
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
            return names.adding(to: wish.withLimitPeriod).merging(
                request.fields(of: "answer", ["note"], changing: subject, refusal) { _ in .null })
        }
        let isShown = forms.contains { $0["id"]?.wholeNumber.map { "\($0)" } == refusal?.subject }
        return .page(
            "requests",
            [
                "as_of": .string(request.now.rfc3339), "done": request.done(["request_granted", "request_refused"]),
                "granted_user": request.query("done") == "request_granted"
                    ? request.query("user").flatMap { Int64($0) }.json : .null,
                "problem": isShown ? .null : (refusal?.problems[FormRefusal.whole]).json, "open": .array(forms),
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
