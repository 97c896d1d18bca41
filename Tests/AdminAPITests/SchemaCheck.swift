import Foundation
import HTTPSupport

/// Checks values against the JSON Schemas of an OpenAPI document (json-schema.org 2020-12, the keywords that it uses).
struct SchemaCheck {
    /// The document, which has the components that a `$ref` names.
    let document: JSON

    /// What `value` has that `schema` does not allow.
    func problems(_ value: JSON, _ schema: JSON, at path: String = "$") -> [String] {
        let schema = resolved(schema)
        if let choices = schema["anyOf"]?.elements {
            let fits = choices.contains { choice in problems(value, choice, at: path).isEmpty }
            return fits ? [] : ["\(path) is none of its choices"]
        }
        var found: [String] = []
        if let type = schema["type"]?.text, !Self.isOf(type, value) { found.append("\(path) is no \(type)") }
        if let words = schema["enum"]?.elements, !words.contains(value) { found.append("\(path) is no such word") }
        if let pattern = schema["pattern"]?.text, let text = value.text,
            text.range(of: pattern, options: .regularExpression) == nil
        {
            found.append("\(path) does not match \(pattern)")
        }
        if let items = schema["items"], let elements = value.elements {
            found += elements.enumerated().flatMap { problems($1, items, at: "\(path)[\($0)]") }
        }
        guard let members = value.members else { return found }
        let names = Set(members.map(\.key))
        found += (schema["required"]?.elements ?? []).compactMap(\.text).filter { !names.contains($0) }
            .map { "\(path) lacks \($0)" }
        for member in members {
            if let known = schema["properties"]?[member.key] {
                found += problems(member.value, known, at: "\(path).\(member.key)")
            } else if schema["additionalProperties"] == false {
                found.append("\(path) has \(member.key)")
            } else if let other = schema["additionalProperties"], other.members != nil {
                found += problems(member.value, other, at: "\(path).\(member.key)")
            }
        }
        return found
    }

    /// The schema that a `$ref` names; other schemas as they are.
    func resolved(_ schema: JSON) -> JSON {
        guard let name = schema["$ref"]?.text?.split(separator: "/").last else { return schema }
        return document["components"]?["schemas"]?[String(name)] ?? ["enum": []]
    }

    private static func isOf(_ type: String, _ value: JSON) -> Bool {
        switch (type, value) {
        case ("object", .object), ("array", .array), ("string", .string), ("boolean", .bool), ("null", .null): true
        case ("number", .number): true
        case ("integer", .number(let literal)): Int64(literal) != nil
        default: false
        }
    }
}
