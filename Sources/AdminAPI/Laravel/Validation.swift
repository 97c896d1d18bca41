import Domain
import Foundation
import HTTPSupport

/// A rule of Laravel's validator, with its sentence.
enum Rule: Sendable {
    case required
    /// Null counts as missing.
    case nullable
    case string
    case email
    case boolean
    case integer
    case numeric
    /// The least value of a number, or the least characters of a text.
    case minimum(Int)
    case maximum(Int)
    /// The field `<name>_confirmation` has the same value.
    case confirmed
    case choice([String])
}

/// A field of the input and its rules, in order.
struct RuledField: Sendable {
    let name: String
    let rules: [Rule]

    init(_ name: String, _ rules: Rule...) {
        self.name = name
        self.rules = rules
    }
}

extension ValidationError {
    /// The errors of the fields of `input`. `further` has an error for a field that keeps its rules.
    init(_ input: JSON, _ fields: [RuledField], further: [String: String] = [:]) {
        self.init()
        for field in fields {
            let problems = field.problems(in: input)
            add(field.name, problems.isEmpty ? [further[field.name]].compactMap(\.self) : problems)
        }
    }

    /// Checks the fields of `input`.
    ///
    /// - Throws: ``ValidationError`` when a field breaks a rule.
    static func check(_ input: JSON, _ fields: [RuledField], further: [String: String] = [:]) throws {
        let error = ValidationError(input, fields, further: further)
        guard error.isEmpty else { throw error }
    }
}

extension RuledField {
    private var label: String { name.replacing("_", with: " ") }

    /// A sentence for each broken rule. A missing field breaks only `required`.
    fileprivate func problems(in input: JSON) -> [String] {
        let value = input[name]
        if value == nil || value == .null {
            if has(.required) { return ["The \(label) field is required."] }
            if value == nil || has(.nullable) { return [] }
        }
        // Check the length first, because matching a pattern takes longer for longer text.
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

/// Input values as PHP reads them. A number may be written as text.
extension JSON {
    /// The text of a string or number.
    var scalarText: String? {
        switch self {
        case .string(let text), .number(let text): text
        default: nil
        }
    }

    /// The number that a number or text contains.
    var decimal: DecimalLiteral? { scalarText.flatMap { DecimalLiteral($0) } }

    /// The whole number that a number or text contains, also as `10.0`.
    var wholeNumber: Int64? {
        guard let text = scalarText else { return nil }
        if let number = Int64(text) { return number }
        guard case .number = self else { return nil }
        return decimal?.whole.flatMap { Int64(exactly: $0) }
    }

    /// The characters of a text or number, or the elements of a list.
    var length: Int { scalarText?.unicodeScalars.count ?? elements?.count ?? 0 }
}

extension String {
    /// Whether this is an address by RFC 5322 and RFC 6531, as Laravel's rule `email` reads them.
    var isEmailAddress: Bool {
        // Laravel's column holds 255 characters of at most 4 bytes. A longer text is nobody's address, so no pattern is
        // matched.
        guard utf8.count <= 1020, let at = lastIndex(of: "@"), !utf8.contains(0) else { return false }
        let (local, domain) = (self[..<at], self[index(after: at)...])
        let isQuoted = local.wholeMatch(of: /"(?:[^"\\\r\n]|\\[ -~])*"/) != nil
        let isLiteral = domain.wholeMatch(of: /\[[0-9A-Fa-f:.]+\]/) != nil
        return (isQuoted || local.isDotted(by: \.isLocalCharacter)) && (isLiteral || domain.isDomain)
    }
}

extension Substring {
    /// Whether this is a sequence of parts of these characters, with one dot between two parts.
    fileprivate func isDotted(by isAllowed: (Unicode.Scalar) -> Bool) -> Bool {
        split(separator: ".", omittingEmptySubsequences: false)
            .allSatisfy { !$0.isEmpty && $0.unicodeScalars.allSatisfy(isAllowed) }
    }

    fileprivate var isDomain: Bool {
        utf8.count <= 253
            && isDotted(by: { !$0.isASCII || $0 == "-" || $0.properties.isAlphabetic || ("0"..."9").contains($0) })
            && split(separator: ".").allSatisfy { $0.utf8.count <= 63 && $0.first != "-" && $0.last != "-" }
    }
}

extension Unicode.Scalar {
    /// RFC 5322 `atext`, and all characters beyond ASCII.
    fileprivate var isLocalCharacter: Bool {
        !isASCII || properties.isAlphabetic || ("0"..."9").contains(self)
            || "!#$%&'*+-/=?^_`{|}~".unicodeScalars.contains(self)
    }
}

extension JSON {
    /// The object that PHP makes of the fields of a query or form. `a[]=1` and `a[b]=1` make a list `a`. Dots and
    /// spaces in a name become `_`. Bytes that are not UTF-8 become replacement characters.
    init(_ fields: [FormField]) {
        var members: [Member] = []
        var lists: [String: [JSON]] = [:]
        for field in fields {
            let (name, isList) = field.nameOfPHP
            let value = JSON.string(field.value ?? "\u{FFFD}")
            if isList {
                lists[name, default: []].append(value)
            } else {
                lists[name] = nil
                members.append(Member(name, value))
            }
        }
        self = .object(members + lists.map { Member($0.key, .array($0.value)) })
    }

    /// The object as Laravel gives it to controllers: texts are trimmed, and empty texts are null. Passwords are
    /// unchanged.
    var asLaravelInput: JSON {
        .object((members ?? []).map { Member($0.key, $0.key.contains("password") ? $0.value : $0.value.trimmed) })
    }

    private var trimmed: JSON {
        switch self {
        case .string(let text):
            let inner = text.trimmingCharacters(in: .whitespacesAndNewlines)
            return inner.isEmpty ? .null : .string(inner)
        case .array(let elements): return .array(elements.map(\.trimmed))
        default: return self
        }
    }
}

extension FormField {
    /// The field's name in PHP, and whether it is a list there (php.net, "Variables from external sources").
    var nameOfPHP: (name: String, isList: Bool) {
        let trimmed = name.drop { $0 == " " }
        let base = trimmed.prefix { $0 != "[" }
        let isList = !base.isEmpty && base.endIndex != trimmed.endIndex && trimmed.contains("]")
        let plain = isList ? base : trimmed
        return (String(plain.map { " .[".contains($0) ? "_" : $0 }), isList)
    }
}
