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
        var given: [String: [String?]] = [:]
        var lists: Set<String> = []
        for field in request.queryFields {
            let (name, isList) = isLaravels ? field.nameOfPHP : (field.name, false)
            if isList { lists.insert(name) } else { given[name, default: []].append(field.value) }
        }
        var values: [String: [String]] = [:]
        var errors = ValidationError()
        for parameter in parameters {
            let found: [String?]?
            switch parameter.place {
            case .path: found = context.parameters.get(parameter.name).map { [$0] }
            case .query: found = given.removeValue(forKey: parameter.name)
            }
            let label = parameter.name.replacing("_", with: " ")
            if lists.contains(parameter.name) { errors.add(parameter.name, ["The \(label) field must be a string."]) }
            guard let raw = found else { continue }
            if raw.count > 1, !parameter.isRepeated, !isLaravels {
                errors.add(parameter.name, ["The \(label) field stands once."])
            }
            let texts = raw.compactMap(\.self).map(parameter.kind.restoringPluses)
            if texts.count < raw.count { errors.add(parameter.name, ["The \(label) field must be a text in UTF-8."]) }
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
