import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Logging
import Storage

/// Serves declared routes: lets in who may ask, understands what is asked, and keeps the time.
struct EndpointServer: Sendable {
    let authenticator: Authenticator
    let bodies: BodyReader
    /// After which a request is answered 504. Streams are finished in their own time.
    let deadline: Duration
    let now: @Sendable () -> Timestamp

    /// Adds each of `endpoints`.
    func add(_ endpoints: [Endpoint], to router: Router<AppRequestContext>) {
        for endpoint in endpoints {
            router.on(RouterPath(endpoint.path), method: endpoint.method) { request, context in
                try await answer(request, context, by: endpoint)
            }
        }
    }

    private func answer(_ request: Request, _ context: AppRequestContext, by endpoint: Endpoint) async throws
        -> Response
    {
        if let refusal = endpoint.refusal { throw refusal }
        var caller = try await authenticator.caller(of: request, for: endpoint)
        context.log["user"] = caller.map { "\($0.user.id)" }
        let bodyDeadline = min(deadline, bodies.deadline)
        guard let body = try await withDeadline(bodyDeadline, { try await body(of: request, context, endpoint) }) else {
            throw AppError(.timeout, BodyReader.tooSlow)
        }
        // A body may be long on its way: whoever lost a right meanwhile has lost it.
        if request.method != .get { caller = try await authenticator.caller(of: request, for: endpoint) }
        let understood = try APIRequest(
            request, context: context, caller: caller, body: body, endpoint: endpoint, now: now())
        guard let answer = try await withDeadline(deadline, { try await endpoint.handle(understood) }) else {
            throw AppError(.timeout, "This took too long. Ask for less, or again later.")
        }
        return answer.response(to: request, vary: endpoint.answers.count > 1 ? [.accept] : [])
    }

    /// The body's JSON object, or the fields of a form.
    ///
    /// Of Laravel's routes also what stands in the query, as Laravel has it; and what is unreadable there is nothing.
    private func body(
        of request: Request, _ context: AppRequestContext, _ endpoint: Endpoint
    ) async throws -> JSON {
        guard request.method != .get else { return [:] }
        // Understood while its memory is reserved: what is made of it is larger.
        return try await bodies.withBody(of: request, context: context) { bytes in
            try endpoint.isLaravels
                ? laravelInput(of: Array(bytes), request, endpoint) : object(of: Array(bytes), endpoint)
        }
    }

    /// The fields that the route takes, of the query and the body. The others, which Laravel ignores too, are let go at
    /// once: a request may wait for its turn a while.
    private func laravelInput(of bytes: [UInt8], _ request: Request, _ endpoint: Endpoint) -> JSON {
        let isForm = request.headers[.contentType]?.lowercased().hasPrefix("application/x-www-form-urlencoded") == true
        let parsed = isForm ? JSON(FormField.parse(bytes)) : JSON(parsing: bytes)
        let query = JSON(request.queryFields)
        let names = Set((endpoint.body?["properties"]?.members ?? []).map(\.key))
        let known = (query.merging(parsed ?? [:]).members ?? []).filter { names.contains($0.key) }
        return JSON.object(known).asLaravelInput
    }

    /// The body of a route of ours: a JSON object, whatever its content type says, of members that are declared. One that nobody
    /// knows is refused: a mistyped change must not look like one that was made.
    private func object(of bytes: [UInt8], _ endpoint: Endpoint) throws -> JSON {
        if bytes.isEmpty { return [:] }
        guard let body = JSON(parsing: bytes), let members = body.members else {
            throw AppError(.invalid, "The body is not a JSON object.")
        }
        var errors = ValidationError()
        for path in JSON.object(members).undeclared(in: endpoint.body ?? [:]) {
            errors.add(path, ["There is no field of this name here."])
        }
        guard errors.isEmpty else { throw errors }
        return body
    }
}

extension JSON {
    /// The paths of the members, at any depth, that the `properties` of `schema` do not have; such as `daily.tokenz`.
    fileprivate func undeclared(in schema: JSON) -> [String] {
        (members ?? []).flatMap { member -> [String] in
            guard let known = schema["properties"]?[member.key] else { return [member.key] }
            guard known["properties"] != nil else { return [] }
            return member.value.undeclared(in: known).map { "\(member.key).\($0)" }
        }
    }
}
