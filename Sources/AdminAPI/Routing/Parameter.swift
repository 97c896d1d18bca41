import Domain
import HTTPSupport
import Storage

/// One value that a route takes from its path or query, and the rule it must keep.
struct Parameter: Sendable {
    enum Place: String, Sendable {
        case path, query
    }

    enum Kind: Sendable {
        case integer(ClosedRange<Int>)
        /// Up to so many characters, none of them NUL.
        case text(Int)
        case choice([String])
        case flag
        /// A day, `2026-11-23`.
        case date
        /// RFC 3339, the same without an offset, or a day.
        case moment
        /// An IANA name.
        case zone
        /// A decimal number that is not negative.
        case amount

        /// `text` with the pluses that were written unescaped, as in `2026-11-26T00:00:00+03:00` or `Etc/GMT+3`, and
        /// arrived as spaces: where a space cannot stand, a plus was meant.
        func restoringPluses(_ text: String) -> String {
            switch self {
            case .moment:
                guard let match = text.wholeMatch(of: /(.*:\d{2}(?:\.\d+)?) (\d{2}:\d{2})/) else { return text }
                return "\(match.1)+\(match.2)"
            case .zone: return text.replacing(" ", with: "+")
            default: return text
            }
        }
    }

    let name: String
    let kind: Kind
    let place: Place
    /// Whether it may stand several times, each a value more.
    let isRepeated: Bool
    let note: String

    private init(_ name: String, _ kind: Kind, _ place: Place, isRepeated: Bool = false, _ note: String) {
        self.name = name
        self.kind = kind
        self.place = place
        self.isRepeated = isRepeated
        self.note = note
    }

    /// A number in the path that names a thing.
    static func id(_ name: String = "id") -> Parameter {
        Parameter(name, .integer(1...Int.max), .path, "Which one.")
    }

    /// A text in the path that names a thing.
    static func path(_ name: String, _ note: String) -> Parameter { Parameter(name, .text(255), .path, note) }

    static func query(_ name: String, _ kind: Kind, _ note: String) -> Parameter { Parameter(name, kind, .query, note) }

    static func repeated(_ name: String, _ kind: Kind, _ note: String) -> Parameter {
        Parameter(name, kind, .query, isRepeated: true, note)
    }

    /// The sentence that says which rule `text` breaks, in Laravel's words; `nil` where it keeps them.
    func problem(with text: String) -> String? {
        let field = name.replacing("_", with: " ")
        switch kind {
        case .integer(let range):
            guard let number = Int(parameter: text) else { return "The \(field) field must be an integer." }
            return range.contains(number)
                ? nil : "The \(field) field must be between \(range.lowerBound) and \(range.upperBound)."
        case .zone:
            return text.utf8.contains(0) || text.utf8.count > 64
                ? "The \(field) field must be an IANA name as in Europe/Istanbul." : nil
        case .text(let maximum):
            guard !text.utf8.contains(0) else { return "The \(field) field must be a string." }
            return text.unicodeScalars.count <= maximum
                ? nil : "The \(field) field must not be greater than \(maximum) characters."
        case .choice(let words):
            return words.contains(text)
                ? nil : "The selected \(field) is invalid. It is one of \(words.joined(separator: ", "))."
        case .flag: return ["true", "false"].contains(text) ? nil : "The \(field) field must be true or false."
        case .date: return CalendarDate(text) == nil ? "The \(field) field must be a date as in 2026-11-23." : nil
        case .moment:
            return !TimeZoneName.isLocalTime(text) && Timestamp(rfc3339: text) == nil
                ? "The \(field) field must be a time as in 2026-11-23T12:00:00Z, or a date." : nil
        case .amount:
            return DecimalLiteral(text).flatMap { Cost($0) } == nil
                ? "The \(field) field must be a number from 0 to 99999999." : nil
        }
    }

    /// The schema of one value.
    var schema: JSON {
        switch kind {
        case .integer(let range): Schema.integer(range)
        case .text(let maximum): Schema.text(0...maximum)
        case .choice(let words): ["type": "string", "enum": .array(words.map(JSON.string))]
        case .zone: Schema.text(0...64)
        case .flag: ["type": "boolean"]
        case .date: ["type": "string", "format": "date"]
        case .moment:
            [
                "type": "string",
                "anyOf": [["format": "date-time"], ["format": "date"], ["pattern": .string(Schema.localTime)]],
            ]
        case .amount: Schema.amountText(below: 8)
        }
    }
}

extension Int {
    /// A whole number, however it is written: JSON Schema takes `1.0` for one (draft 2020-12, §6.1.1).
    init?(parameter text: String) {
        guard let number = Int(text) ?? DecimalLiteral(text)?.whole.flatMap(Int.init(exactly:)) else { return nil }
        self = number
    }
}
