import Analytics
import Domain
import HTTPSupport
import Storage

/// One value that a route takes from its path or query, and the rule that it must keep.
struct Parameter: Sendable {
    enum Location: String, Sendable {
        case path, query
    }

    enum Kind: Sendable {
        case integer(ClosedRange<Int>)
        /// At most so many characters, without NUL.
        case text(Int)
        case choice([String])
        case flag
        /// A day, `2026-11-23`.
        case date
        /// RFC 3339, with or without an offset, or a day.
        case moment
        /// An IANA name.
        case zone
        /// A decimal number of 0 or more.
        case amount

        /// Restores unescaped pluses, which arrive as spaces, as in `2026-11-26T00:00:00+03:00` or `Etc/GMT+3`. Neither
        /// kind of value contains a space.
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
    let location: Location
    /// Whether the parameter may be given several times, each time with one more value.
    let isRepeated: Bool
    let description: String
    /// A value for the examples of `/openapi.json`; `nil` for one that fits the schema.
    private let givenExample: JSON?

    private init(
        _ name: String, _ kind: Kind, _ location: Location, isRepeated: Bool = false, _ description: String,
        example: JSON?
    ) {
        self.name = name
        self.kind = kind
        self.location = location
        self.isRepeated = isRepeated
        self.description = description
        givenExample = example
    }

    /// An id in the path.
    static func id(_ name: String = "id") -> Parameter {
        Parameter(name, .integer(1...Int.max), .path, "The id.", example: nil)
    }

    /// A text in the path.
    static func path(_ name: String, _ description: String, example: JSON) -> Parameter {
        Parameter(name, .text(255), .path, description, example: example)
    }

    static func query(_ name: String, _ kind: Kind, _ description: String, example: JSON? = nil) -> Parameter {
        Parameter(name, kind, .query, description, example: example)
    }

    static func repeated(_ name: String, _ kind: Kind, _ description: String, example: JSON? = nil) -> Parameter {
        Parameter(name, kind, .query, isRepeated: true, description, example: example)
    }

    /// The parameters of every list.
    static let page: [Parameter] = [
        .query("limit", .integer(1...1000), "Rows on a page; 100 by default."),
        .query("cursor", .text(1024), "`next_cursor` of the page before."),
    ]

    /// A value that the parameter takes.
    var example: JSON { givenExample ?? Schema.example(of: schema) }

    /// The rule that `text` breaks, in Laravel's words; `nil` where it keeps them all.
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
        case .choice(let words): Schema.choice(words)
        case .zone: Schema.text(0...64).withExample("Europe/Istanbul")
        case .flag: Schema.boolean
        case .date: Schema.date
        case .moment:
            [
                "type": "string",
                "anyOf": [["format": "date-time"], ["format": "date"], ["pattern": .string(Schema.localTime)]],
                "examples": ["2026-11-23T00:00:00Z"],
            ]
        case .amount: Schema.amountText(below: 8)
        }
    }
}

extension Int {
    /// A whole number in any notation. JSON Schema takes `1.0` as an integer (draft 2020-12, §6.1.1).
    init?(parameter text: String) {
        guard let number = Int(text) ?? DecimalLiteral(text)?.whole.flatMap(Int.init(exactly:)) else { return nil }
        self = number
    }
}
