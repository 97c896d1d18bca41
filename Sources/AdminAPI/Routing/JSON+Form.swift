import Foundation
import HTTPSupport

extension JSON {
    /// The object that PHP makes of the fields of a query or form: `a[]=1` and `a[b]=1` make a list of `a`, and dots
    /// and spaces in a name become `_`. Text that is not UTF-8 has replacement characters.
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

    /// Texts without white space around them, and null where nothing is left, as Laravel hands input on; passwords stay as they
    /// are.
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
    /// The name under which PHP has it, and whether it is a list there (php.net, "Variables from external sources").
    var nameOfPHP: (name: String, isList: Bool) {
        let trimmed = name.drop { $0 == " " }
        let base = trimmed.prefix { $0 != "[" }
        let isList = !base.isEmpty && base.endIndex != trimmed.endIndex && trimmed.contains("]")
        let plain = isList ? base : trimmed
        return (String(plain.map { " .[".contains($0) ? "_" : $0 }), isList)
    }
}
