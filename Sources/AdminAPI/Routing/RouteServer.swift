import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Logging
import Storage

/// Serves the table of routes: checks who asks, reads the input, and limits the time.
struct RouteServer: Sendable {
    let authenticator: Authenticator
    let bodies: BodyReader
    /// The time after which a request is answered 504. It does not limit a streamed answer.
    let deadline: Duration
    let now: @Sendable () -> Timestamp

    /// `routes` with handlers that check, read and limit before they ask the operation.
    func serve(_ routes: [Route]) -> [HTTPRoute] {
        routes.map { route in
            HTTPRoute(route.method, route.path, .clients) { request, context in
                try await respond(to: request, context, by: route)
            }
        }
    }

    private func respond(
        to request: Request, _ context: AppRequestContext, by route: Route
    ) async throws -> Response {
        if let refusal = route.operation.refusal { throw refusal }
        var caller = try await authenticator.caller(of: request, for: route)
        context.log["user"] = caller.map { "\($0.user.id)" }
        let bodyDeadline = min(deadline, bodies.deadline)
        guard let body = try await withDeadline(bodyDeadline, { try await body(of: request, context, route) }) else {
            throw AppError(.timeout, BodyReader.tooSlow)
        }
        // A body may take long to arrive. A caller who lost a right meanwhile is refused.
        if request.method != .get { caller = try await authenticator.caller(of: request, for: route) }
        let input = try APIRequest(
            request, context: context, caller: caller, body: body, route: route, now: now(),
            authenticate: { try await authenticator.caller(of: request, for: route) })
        guard let response = try await withDeadline(deadline, { try await route.operation.handle(input) }) else {
            throw AppError(.timeout, "This took too long. Ask for less, or again later.")
        }
        return response.response(to: request, vary: route.operation.content.count > 1 ? [.accept] : [])
    }

    /// The body's JSON object, or the fields of a form.
    ///
    /// Laravel's routes also take fields from the query, and read a body that is not JSON as empty.
    private func body(of request: Request, _ context: AppRequestContext, _ route: Route) async throws -> JSON {
        guard request.method != .get else { return [:] }
        // Parse while the memory is reserved: the parsed value is larger than the bytes.
        return try await bodies.withBody(of: request, context: context) { bytes in
            try route.isLaravel
                ? laravelInput(of: Array(bytes), request, route) : object(of: Array(bytes), route)
        }
    }

    /// The declared fields of query and body. Other fields are dropped at once, because a request may wait in memory.
    private func laravelInput(of bytes: [UInt8], _ request: Request, _ route: Route) -> JSON {
        let isForm = request.headers[.contentType]?.lowercased().hasPrefix("application/x-www-form-urlencoded") == true
        let parsed = isForm ? JSON(FormField.parse(bytes)) : JSON(parsing: bytes)
        let query = JSON(request.queryFields)
        let names = Set((route.operation.body?["properties"]?.members ?? []).map(\.key))
        let known = (query.merging(parsed ?? [:]).members ?? []).filter { names.contains($0.key) }
        return JSON.object(known).asLaravelInput
    }

    /// The body as a JSON object, whatever its content type says. An undeclared member is refused, because a mistyped
    /// change must not look like one that was made.
    ///
    /// - Throws: ``AppError`` `.invalid` when the body is not a JSON object; ``ValidationError`` when it has undeclared
    ///   members.
    private func object(of bytes: [UInt8], _ route: Route) throws -> JSON {
        if bytes.isEmpty { return [:] }
        guard let body = JSON(parsing: bytes), let members = body.members else {
            throw AppError(.invalid, "The body is not a JSON object.")
        }
        var errors = ValidationError()
        for path in JSON.object(members).undeclared(in: route.operation.body ?? [:]) {
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
