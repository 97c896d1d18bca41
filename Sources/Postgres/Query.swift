/// SQL with its values: `"SELECT … WHERE id = \(id)"` binds `id` to a placeholder, it never becomes part of the text.
package struct Query: ExpressibleByStringInterpolation, Sendable {
    /// The SQL text around the placeholders, one piece more than there are values.
    private var pieces: [String]
    private(set) var parameters: ParameterBuffer

    package init(stringLiteral value: String) {
        pieces = [value]
        parameters = ParameterBuffer()
    }

    package init(stringInterpolation interpolation: StringInterpolation) {
        self = interpolation.query
    }

    /// SQL from text; for text that this program wrote, never for anything from outside.
    package init(unsafeSQL text: String) {
        self.init(stringLiteral: text)
    }

    /// The text that PostgreSQL parses, with `$1`, `$2`, … where the values go.
    package var sql: String {
        var text = pieces[0]
        for (index, piece) in pieces.dropFirst().enumerated() {
            text += "$\(index + 1)"
            text += piece
        }
        return text
    }

    private mutating func append(text: String) {
        pieces[pieces.count - 1] += text
    }

    /// - Throws: ``PostgresError`` `.invalidParameter` when a value or the text contains NUL, at which C would cut it
    ///   off.
    func validate(_ sql: String) throws {
        if let number = parameters.firstInvalid {
            throw PostgresError(.invalidParameter, "parameter $\(number) contains NUL", query: sql)
        }
        guard !sql.utf8.contains(0) else {
            throw PostgresError(.invalidParameter, "the SQL text contains NUL", query: sql)
        }
    }

    /// Builds a `Query` from a string literal with interpolated values.
    package struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var query = Query(stringLiteral: "")

        package init(literalCapacity: Int, interpolationCount: Int) {}

        package mutating func appendLiteral(_ literal: String) {
            query.append(text: literal)
        }

        /// Binds `value` to the next placeholder.
        package mutating func appendInterpolation(_ value: some PostgresEncodable) {
            query.pieces.append("")
            query.parameters.append(value)
        }

        /// Binds `value`, or NULL where it is `nil`, to the next placeholder.
        package mutating func appendInterpolation<Value: PostgresEncodable>(_ value: Value?) {
            query.pieces.append("")
            query.parameters.append(value)
        }

        /// Inserts a part of a query with its values, whose placeholders are numbered on.
        package mutating func appendInterpolation(_ part: Query) {
            query.append(text: part.pieces[0])
            query.pieces.append(contentsOf: part.pieces.dropFirst())
            query.parameters.append(contentsOf: part.parameters)
        }

        /// Inserts `text` as it is: for names and keywords that this program wrote, never for anything from outside.
        package mutating func appendInterpolation(unsafeSQL text: String) {
            query.append(text: text)
        }
    }
}

extension Query: CustomStringConvertible, CustomReflectable {
    /// The SQL text; never the values.
    package var description: String { sql }

    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// The bound values of one query in PostgreSQL's text format: one buffer, each value ended by NUL, as libpq wants them.
struct ParameterBuffer: Sendable {
    private var bytes: [UInt8] = []
    /// Where each value starts in `bytes`; `nil` is SQL's NULL.
    private var starts: [Int?] = []
    /// The number, from 1, of the first value that contains NUL and so would be cut short.
    private(set) var firstInvalid: Int?

    var count: Int { starts.count }

    mutating func append(_ value: some PostgresEncodable) {
        let start = bytes.count
        guard value.encode(into: &bytes) else {
            starts.append(nil)
            return
        }
        starts.append(start)
        if firstInvalid == nil, bytes[start...].contains(0) {
            firstInvalid = starts.count
        }
        bytes.append(0)
    }

    mutating func append(contentsOf other: ParameterBuffer) {
        if firstInvalid == nil, let invalid = other.firstInvalid {
            firstInvalid = count + invalid
        }
        let offset = bytes.count
        starts.append(contentsOf: other.starts.map { start in start.map { $0 + offset } })
        bytes.append(contentsOf: other.bytes)
    }

    /// Lends the values as the array of C strings that libpq's calls take; it ends with the call.
    func withPointers<T>(_ body: (UnsafePointer<UnsafePointer<CChar>?>?) throws -> T) rethrows -> T {
        try bytes.withUnsafeBytes { buffer in
            let base = buffer.assumingMemoryBound(to: CChar.self).baseAddress
            let pointers = starts.map { start -> UnsafePointer<CChar>? in
                guard let base, let start else { return nil }
                return base + start
            }
            return try pointers.withUnsafeBufferPointer { try body($0.baseAddress) }
        }
    }
}
