import Domain
import HTTPSupport
import Hummingbird
import Storage

/// One request to a route, with what it says already understood: who asks, its parameters, its body.
struct Call: Sendable {
    let request: Request
    let context: AppRequestContext
    let caller: Caller?
    let body: JSON
    let now: Timestamp
    private let values: [String: [String]]

    /// - Throws: ``ValidationError`` with every parameter that breaks its rule.
    init(
        _ request: Request, context: AppRequestContext, caller: Caller?, body: JSON, endpoint: Endpoint, now: Timestamp
    ) throws {
        self.request = request
        self.context = context
        self.caller = caller
        self.body = body
        self.now = now
        values = try endpoint.values(of: request, context: context)
    }

    /// Who asks; only for routes that let in no strangers.
    var user: UserProfile {
        get throws {
            guard let caller else { throw AppError(.unauthorized, "Unauthenticated.") }
            return caller.user
        }
    }

    /// Every value of the parameter `name`; `nil` where it was not given.
    func texts(_ name: String) -> [String]? { values[name] }

    /// The value of the parameter `name`.
    func text(_ name: String) -> String? { values[name]?.last }

    func integer(_ name: String) -> Int? { text(name).flatMap(Int.init(parameter:)) }

    /// Whether the parameter `name` is true.
    func flag(_ name: String) -> Bool { text(name) == "true" }

    func date(_ name: String) -> CalendarDate? { text(name).flatMap { CalendarDate($0) } }

    func amount(_ name: String) -> DecimalLiteral? { text(name).flatMap { DecimalLiteral($0) } }

    /// The number in the path that names a thing.
    func id(_ name: String = "id") throws -> Int64 {
        guard let id = integer(name) else { throw AppError(.notFound, "There is no such \(name).") }
        return Int64(id)
    }
}

extension Endpoint {
    /// The values of the declared parameters, each checked.
    ///
    /// A parameter that nobody declared is refused below `/api/v1`: a mistyped filter must not look like an answer. Laravel
    /// ignores them, and so do its routes.
    fileprivate func values(of request: Request, context: AppRequestContext) throws -> [String: [String]] {
        var given: [String: [String]] = [:]
        for (name, value) in request.uri.queryParameters { given[String(name), default: []].append(String(value)) }
        var values: [String: [String]] = [:]
        var errors = ValidationError()
        for parameter in parameters {
            let texts: [String]?
            switch parameter.place {
            case .path: texts = context.parameters.get(parameter.name).map { [$0] }
            case .query:
                let name = parameter.name
                if isLaravels, given["\(name)[]"] != nil {
                    errors.add(name, ["The \(name.replacing("_", with: " ")) field must be a string."])
                }
                texts = given.removeValue(forKey: name)
            }
            guard let texts else { continue }
            if texts.count > 1, !parameter.isRepeated, !isLaravels {
                errors.add(parameter.name, ["The \(parameter.name.replacing("_", with: " ")) field stands once."])
            }
            // Laravel takes an empty value for none.
            let present = isLaravels ? texts.filter { !$0.isEmpty } : texts
            errors.add(parameter.name, Array(present.compactMap(parameter.problem(with:)).prefix(1)))
            values[parameter.name] = present
        }
        if !isLaravels {
            for name in given.keys.sorted() { errors.add(name, ["There is no parameter of this name here."]) }
        }
        guard errors.isEmpty else { throw errors }
        return values
    }
}
