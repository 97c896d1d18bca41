import HTTPSupport

/// JSON Schemas of bodies and answers, as OpenAPI 3.1 has them.
enum Schema {
    static let string: JSON = ["type": "string"]
    static let integer: JSON = ["type": "integer"]
    static let number: JSON = ["type": "number"]
    static let boolean: JSON = ["type": "boolean"]
    static let time: JSON = ["type": "string", "format": "date-time"]
    /// An exact amount in USD, as text.
    static let money: JSON = ["type": "string", "pattern": #"^-?[0-9]+(\.[0-9]+)?$"#]
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

    /// An object whose keys are data.
    static func map(of value: JSON) -> JSON { ["type": "object", "additionalProperties": value] }

    /// `{"message": …}`
    static let message = object(["message": string])
}
