import Domain
import HTTPSupport

/// What Laravel's validator demands of a field, with its sentences.
enum Rule: Sendable {
    case required
    /// Null is as good as nothing.
    case nullable
    case string
    case email
    case boolean
    case integer
    case numeric
    /// At least so much: of a number its value, of a text its characters.
    case minimum(Int)
    case maximum(Int)
    /// The field `<name>_confirmation` has the same value.
    case confirmed
    case choice([String])
}

/// One field of an input and the rules it must keep, in their order.
struct RuledField: Sendable {
    let name: String
    let rules: [Rule]

    init(_ name: String, _ rules: Rule...) {
        self.name = name
        self.rules = rules
    }
}

extension ValidationError {
    /// What is wrong with the fields of `input`; nothing where all keep their rules. `further` says what else is wrong
    /// with a field that keeps its rules.
    init(_ input: JSON, _ fields: [RuledField], further: [String: String] = [:]) {
        self.init()
        for field in fields {
            let problems = field.problems(in: input)
            add(field.name, problems.isEmpty ? [further[field.name]].compactMap(\.self) : problems)
        }
    }

    /// Throws the problems, if there are any.
    static func check(_ input: JSON, _ fields: [RuledField], further: [String: String] = [:]) throws {
        let error = ValidationError(input, fields, further: further)
        guard error.isEmpty else { throw error }
    }
}

extension RuledField {
    private var label: String { name.replacing("_", with: " ") }

    /// The sentences for the rules that are broken. A field that is missing breaks only `required`.
    fileprivate func problems(in input: JSON) -> [String] {
        let value = input[name]
        if value == nil || value == .null {
            if has(.required) { return ["The \(label) field is required."] }
            if value == nil || has(.nullable) { return [] }
        }
        // A text that is too long is looked at no further: a pattern costs by its length.
        for case .maximum(let bound) in rules where !isNumber && (value?.text?.utf8.count ?? 0) > bound {
            if let problem = problem(.maximum(bound), value ?? .null, input) { return [problem] }
        }
        return rules.compactMap { problem($0, value ?? .null, input) }
    }

    private func has(_ rule: Rule) -> Bool {
        rules.contains { candidate in
            switch (candidate, rule) {
            case (.required, .required), (.nullable, .nullable), (.numeric, .numeric): true
            default: false
            }
        }
    }

    private func problem(_ rule: Rule, _ value: JSON, _ input: JSON) -> String? {
        let isKept: Bool
        let sentence: String
        switch rule {
        case .required, .nullable: return nil
        case .string:
            (isKept, sentence) = (value.text.map { !$0.utf8.contains(0) } ?? false, "must be a string.")
        case .email: (isKept, sentence) = (value.text?.isEmailAddress ?? false, "must be a valid email address.")
        case .boolean: (isKept, sentence) = (value == true || value == false, "must be true or false.")
        case .integer: (isKept, sentence) = (value.wholeNumber != nil, "must be an integer.")
        case .numeric: (isKept, sentence) = (value.decimal != nil, "must be a number.")
        case .minimum(let bound) where isNumber:
            (isKept, sentence) = (value.decimal?.isAtLeast(bound) ?? true, "must be at least \(bound).")
        case .minimum(let bound):
            (isKept, sentence) = (value.length >= bound, "must be at least \(bound) characters.")
        case .maximum(let bound):
            (isKept, sentence) = (value.length <= bound, "must not be greater than \(bound) characters.")
        case .confirmed: (isKept, sentence) = (input["\(name)_confirmation"] == value, "confirmation does not match.")
        case .choice(let words):
            return value.scalarText.map(words.contains) ?? false ? nil : "The selected \(label) is invalid."
        }
        return isKept ? nil : "The \(label) field \(sentence)"
    }

    private var isNumber: Bool {
        rules.contains { rule in
            switch rule {
            case .integer, .numeric: true
            default: false
            }
        }
    }
}

extension DecimalLiteral {
    fileprivate func isAtLeast(_ bound: Int) -> Bool {
        scaled(by: 12).map { $0 >= Int128(bound) * 1_000_000_000_000 } ?? !isBelowZero
    }
}
