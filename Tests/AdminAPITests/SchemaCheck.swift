import Foundation
import HTTPSupport

/// What an answer has that its JSON Schema does not allow (json-schema.org 2020-12, the words that our schemas use).
enum SchemaCheck {
    static func problems(_ value: JSON, _ schema: JSON, at path: String = "$") -> [String] {
        if let choices = schema["anyOf"]?.elements {
            let fits = choices.contains { choice in Self.problems(value, choice, at: path).isEmpty }
            return fits ? [] : ["\(path) is none of its choices"]
        }
        var problems: [String] = []
        if let type = schema["type"]?.text, !isOf(type, value) { problems.append("\(path) is no \(type)") }
        if let words = schema["enum"]?.elements, !words.contains(value) { problems.append("\(path) is no such word") }
        if let pattern = schema["pattern"]?.text, let text = value.text,
            text.range(of: pattern, options: .regularExpression) == nil
        {
            problems.append("\(path) does not match \(pattern)")
        }
        if let items = schema["items"], let elements = value.elements {
            problems += elements.enumerated().flatMap { Self.problems($1, items, at: "\(path)[\($0)]") }
        }
        guard let members = value.members else { return problems }
        let names = Set(members.map(\.key))
        problems += (schema["required"]?.elements ?? []).compactMap(\.text).filter { !names.contains($0) }
            .map { "\(path) lacks \($0)" }
        for member in members {
            if let known = schema["properties"]?[member.key] {
                problems += Self.problems(member.value, known, at: "\(path).\(member.key)")
            } else if schema["additionalProperties"] == false {
                problems.append("\(path) has \(member.key)")
            } else if let other = schema["additionalProperties"], other.members != nil {
                problems += Self.problems(member.value, other, at: "\(path).\(member.key)")
            }
        }
        return problems
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
