import Domain
import HTTPSupport
import Storage

extension LimitAdministration.UserChange {
    /// What a body asks for: a member for each window, and `models`.
    ///
    /// - Throws: ``ValidationError`` with everything that is wrong.
    init(_ body: JSON) throws {
        var errors = ValidationError()
        var windows: [QuotaPeriod: UserLimits.Change] = [:]
        for period in QuotaPeriod.allCases {
            guard let window = body[period.rawValue] else { continue }
            let name = period.rawValue
            guard window.members != nil else {
                errors.add(name, ["The \(name) field must be an object."])
                continue
            }
            windows[period] = UserLimits.Change(
                requests: window.setting("requests", in: name, &errors, "a whole number of 0 or more", Self.count),
                tokens: window.setting("tokens", in: name, &errors, "a whole number of 0 or more", Self.count),
                budget: window.setting("budget", in: name, &errors, "USD from 0 to 99999999 as a decimal string") {
                    $0.decimal.flatMap { Cost($0) }.map { Money(picodollars: $0.picodollars) }
                })
        }
        let models: UserLimits.Setting<[String]> = body.setting("models", in: nil, &errors, "a list of names") {
            value in
            guard let elements = value.elements, elements.count <= 1_000 else { return nil }
            let names = elements.compactMap(\.text)
            return names.count == elements.count && !names.contains { $0.utf8.contains(0) } ? names : nil
        }
        guard errors.isEmpty else { throw errors }
        self.init(windows: windows, models: models)
    }

    private static func count(_ value: JSON) -> Int64? { value.wholeNumber.flatMap { $0 >= 0 ? $0 : nil } }
}

extension JSON {
    /// What a member sets: nothing where it is missing, the default again where it is null.
    fileprivate func setting<Amount>(
        _ name: String, in parent: String?, _ errors: inout ValidationError, _ expectation: String,
        _ read: (JSON) -> Amount?
    ) -> UserLimits.Setting<Amount> {
        guard let value = self[name] else { return .keep }
        if value == .null { return .clear }
        if let amount = read(value) { return .set(amount) }
        let path = parent.map { "\($0).\(name)" } ?? name
        errors.add(path, ["The \(path) field must be \(expectation), or null."])
        return .keep
    }
}

extension Schema {
    static let limitChange = closedBody(
        [:],
        optional: [
            "daily": windowChange, "monthly": windowChange,
            "models": ["anyOf": [names, ["type": "null"]], "description": "The only ones that may be called."],
        ])

    private static let names = list(text()).merging(["maxItems": 1_000])
    private static let count = optional(integer(0...Int.max))
    private static let windowChange = closedBody(
        [:], optional: ["requests": count, "tokens": count, "budget": optional(amount(below: 8))])
}
