/// A JSON value with its keys in order and its numbers as they are written, so that money never passes through binary
/// floating point (`design.md` §1.6).
package enum JSON: Sendable, Hashable {
    case null
    case bool(Bool)
    /// The literal text of a number (RFC 8259 §6).
    case number(String)
    case string(String)
    case array([JSON])
    case object([Member])

    /// One key of an object and its value.
    package struct Member: Sendable, Hashable {
        package let key: String
        package let value: JSON

        package init(_ key: String, _ value: JSON) {
            self.key = key
            self.value = value
        }
    }

    package static func integer(_ value: some BinaryInteger) -> JSON { .number(String(value)) }

    /// An object with its keys in the order given.
    package static func object(_ members: KeyValuePairs<String, JSON>) -> JSON {
        .object(members.map { Member($0.key, $0.value) })
    }

    /// The value of an object's `key`, the last where it stands twice; `nil` for every other value.
    package subscript(key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.last { $0.key == key }?.value
    }

    /// The text of a string.
    package var text: String? { if case .string(let text) = self { text } else { nil } }

    /// The elements of an array.
    package var elements: [JSON]? { if case .array(let elements) = self { elements } else { nil } }

    /// The members of an object.
    package var members: [Member]? { if case .object(let members) = self { members } else { nil } }

    /// An object with the members of `other` behind its own.
    package func merging(_ other: JSON) -> JSON { .object((members ?? []) + (other.members ?? [])) }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .integer(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(elements.map(Member.init)) }
    package init(nilLiteral: ()) { self = .null }
}

extension Optional<String> {
    /// A JSON string, or null.
    package var json: JSON { map(JSON.string) ?? .null }
}

extension Optional where Wrapped: BinaryInteger {
    /// A JSON number, or null.
    package var json: JSON { map { .integer($0) } ?? .null }
}
