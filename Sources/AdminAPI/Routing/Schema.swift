import HTTPSupport

/// JSON Schemas of bodies and answers, as OpenAPI 3.1 has them.
enum Schema {
    static let string: JSON = ["type": "string"]
    /// A text of `lengths` characters; PostgreSQL keeps no NUL.
    static func text(_ lengths: ClosedRange<Int>) -> JSON {
        text(from: lengths.lowerBound).merging(["maxLength": .integer(lengths.upperBound)])
    }

    /// A text of at least `minimum` characters.
    static func text(from minimum: Int = 0) -> JSON {
        ["type": "string", "minLength": .integer(minimum), "pattern": #"^[^\u0000]*$"#]
    }

    static let email: JSON = ["type": "string", "format": "email", "maxLength": 255]
    static let uuid: JSON = ["type": "string", "format": "uuid"]
    static let integer: JSON = ["type": "integer"]

    static func integer(_ range: ClosedRange<Int>) -> JSON {
        let (minimum, maximum) = (JSON.integer(range.lowerBound), JSON.integer(range.upperBound))
        return ["type": "integer", "format": "int64", "minimum": minimum, "maximum": maximum]
    }

    static let number: JSON = ["type": "number"]
    static let boolean: JSON = ["type": "boolean"]
    static let time: JSON = ["type": "string", "format": "date-time"]
    /// An exact amount in USD, as text.
    static let money: JSON = ["type": "string", "pattern": #"^-?[0-9]+(\.[0-9]+)?$"#]
    /// A time on a clock of the range's zone, such as `2026-11-23T09:30`; every day has one, though not in this
    /// pattern.
    static let localTime =
        "^(19[7-9][0-9]|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"
    /// An amount in USD below 10 to the power of `digits`, as text.
    static func amountText(below digits: Int) -> JSON {
        ["type": "string", "pattern": .string(#"^(0|[1-9][0-9]{0,\#(digits - 1)})(\.[0-9]{1,12})?$"#)]
    }

    /// The same, or a number.
    static func amount(below digits: Int) -> JSON {
        let bound = "1" + String(repeating: "0", count: digits)
        let number: JSON = ["type": "number", "minimum": 0, "exclusiveMaximum": .number(bound)]
        return ["anyOf": [amountText(below: digits), number]]
    }

    /// Anything.
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

    /// ``body(_:optional:)`` that has no other members, as `/api/v1` takes it.
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
