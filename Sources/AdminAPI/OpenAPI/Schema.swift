import Foundation
import HTTPSupport

/// JSON Schemas of bodies and answers, as OpenAPI 3.1 has them.
enum Schema {
    static let string: JSON = ["type": "string"]
    /// A text of `lengths` characters without NUL, which PostgreSQL cannot store.
    static func text(_ lengths: ClosedRange<Int>) -> JSON {
        text(from: lengths.lowerBound).merging(["maxLength": .integer(lengths.upperBound)])
    }

    /// A text of at least `minimum` characters.
    static func text(from minimum: Int = 0) -> JSON {
        ["type": "string", "minLength": .integer(minimum), "pattern": #"^[^\u0000]*$"#]
    }

    static let email: JSON = ["type": "string", "format": "email", "maxLength": 255]
    static let uuid: JSON = ["type": "string", "format": "uuid"]
    static let date: JSON = ["type": "string", "format": "date"]
    static let integer: JSON = ["type": "integer"]

    static func integer(_ range: ClosedRange<Int>) -> JSON {
        let (minimum, maximum) = (JSON.integer(range.lowerBound), JSON.integer(range.upperBound))
        return ["type": "integer", "format": "int64", "minimum": minimum, "maximum": maximum]
    }

    static let number: JSON = ["type": "number"]
    static let boolean: JSON = ["type": "boolean"]
    static let time: JSON = ["type": "string", "format": "date-time"]
    /// An exact amount in USD, as text.
    static let money: JSON = ["type": "string", "pattern": #"^-?[0-9]+(\.[0-9]+)?$"#, "examples": ["0.0125"]]
    /// A time without an offset, such as `2026-11-23T09:30`. The pattern leaves out the 29th to 31st, which not every
    /// month has.
    static let localTime =
        "^(19[7-9][0-9]|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"
    /// An amount in USD below 10 to the power of `digits`, as text.
    static func amountText(below digits: Int) -> JSON {
        [
            "type": "string", "pattern": .string(#"^(0|[1-9][0-9]{0,\#(digits - 1)})(\.[0-9]{1,12})?$"#),
            "examples": ["0.5"],
        ]
    }

    /// The same, or a number.
    static func amount(below digits: Int) -> JSON {
        let bound = "1" + String(repeating: "0", count: digits)
        let number: JSON = ["type": "number", "minimum": 0, "exclusiveMaximum": .number(bound)]
        return ["anyOf": [amountText(below: digits), number]]
    }

    /// Any value.
    static let anything: JSON = [:]

    /// `schema`, or null.
    static func optional(_ schema: JSON) -> JSON { ["anyOf": [schema, ["type": "null"]]] }

    static func list(_ element: JSON) -> JSON { ["type": "array", "items": element] }

    static func choice(_ words: [String]) -> JSON { ["type": "string", "enum": .array(words.map(JSON.string))] }

    /// An object that has all of `properties` and nothing else.
    static func object(_ properties: KeyValuePairs<String, JSON>) -> JSON {
        object(of: properties.map { ($0.key, $0.value) })
    }

    static func object(of properties: [(String, JSON)]) -> JSON {
        let members = properties.map(JSON.Member.init)
        return [
            "type": "object", "properties": .object(members), "required": .array(members.map { .string($0.key) }),
            "additionalProperties": false,
        ]
    }

    /// A body whose `optional` members may be left out.
    static func body(_ required: KeyValuePairs<String, JSON>, optional: KeyValuePairs<String, JSON> = [:]) -> JSON {
        let members = (required.map { $0 } + optional.map { $0 }).map { JSON.Member($0.key, $0.value) }
        return [
            "type": "object", "properties": .object(members), "required": .array(required.map { .string($0.key) }),
        ]
    }

    /// A ``body(_:optional:)`` without other members, as routes below `/api/v1` take it.
    static func closedBody(
        _ required: KeyValuePairs<String, JSON>, optional: KeyValuePairs<String, JSON> = [:]
    ) -> JSON {
        body(required, optional: optional).merging(["additionalProperties": false])
    }

    /// An object whose keys are data.
    static func map(of value: JSON) -> JSON { ["type": "object", "additionalProperties": value] }

    /// `{"message": …}`
    static let message = object(["message": string])
}

extension Schema {
    /// A value that fits `schema`: the first example or choice that it names, else the plainest value of its type.
    static func example(of schema: JSON) -> JSON {
        if let named = schema["examples"]?.elements?.first ?? schema["enum"]?.elements?.first { return named }
        if let choice = schema["anyOf"]?.elements?.first { return example(of: choice) }
        switch schema["type"]?.text {
        case "object":
            if let properties = schema["properties"]?.members {
                return .object(properties.map { .init($0.key, example(of: $0.value)) })
            }
            return schema["additionalProperties"].map { ["key": example(of: $0)] } ?? [:]
        case "array": return .array(schema["items"].map { [example(of: $0)] } ?? [])
        case "integer": return schema["minimum"] ?? 1
        case "number": return schema["minimum"] ?? 1
        case "boolean": return false
        case "string": return .string(exampleText(of: schema))
        default: return .null
        }
    }

    private static func exampleText(of schema: JSON) -> String {
        switch schema["format"]?.text {
        case "date-time": return "2026-11-23T08:04:09Z"
        case "date": return "2026-11-23"
        case "email": return "ada@example.com"
        case "uuid": return "019ab1c2-5f10-7000-8000-000000000001"
        default:
            let minimum = schema["minLength"].flatMap(\.wholeNumber) ?? 0
            return "text".padding(toLength: max(4, Int(minimum)), withPad: "x", startingAt: 0)
        }
    }
}

extension JSON {
    /// A schema under a name, by which `/openapi.json` has it as a component.
    func named(_ name: String) -> JSON { JSON.object([.init("title", .string(name))] + (members ?? [])) }

    /// A schema with another example.
    func withExample(_ example: JSON) -> JSON {
        .object((members ?? []).filter { $0.key != "examples" } + [.init("examples", [example])])
    }
}
