/// A value that can be bound to a placeholder of a query.
package protocol PostgresEncodable: Sendable {
    /// Appends the value in PostgreSQL's text format; `false`, with nothing appended, is NULL.
    func encode(into text: inout [UInt8]) -> Bool
}

/// A value that can be read from a column.
package protocol PostgresDecodable: Sendable {
    /// The value of a column's text, `nil` of which is NULL; `nil` if the text is not one of this type.
    init?(postgresText text: ArraySlice<UInt8>?)
}

/// A type whose Swift arrays PostgreSQL can hold: as an array, or of `UInt8` as one `bytea`.
package protocol PostgresArrayElement: Sendable {
    /// Appends the whole array in PostgreSQL's text format.
    static func encodeArray(_ elements: [Self], into text: inout [UInt8])

    /// The array that `text` writes; `nil` if it is not one.
    static func decodeArray(_ text: ArraySlice<UInt8>) -> [Self]?
}

extension Optional: PostgresEncodable where Wrapped: PostgresEncodable {
    package func encode(into text: inout [UInt8]) -> Bool {
        self?.encode(into: &text) ?? false
    }
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
    package init?(postgresText text: ArraySlice<UInt8>?) {
        guard let text else {
            self = .none
            return
        }
        guard let value = Wrapped(postgresText: text) else { return nil }
        self = value
    }
}

extension Array: PostgresEncodable where Element: PostgresArrayElement {
    package func encode(into text: inout [UInt8]) -> Bool {
        Element.encodeArray(self, into: &text)
        return true
    }
}

extension Array: PostgresDecodable where Element: PostgresArrayElement {
    package init?(postgresText text: ArraySlice<UInt8>?) {
        guard let text, let elements = Element.decodeArray(text) else { return nil }
        self = elements
    }
}
