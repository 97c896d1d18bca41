/// SQL with its values. `"SELECT … WHERE id = \(id)"` binds `id` to a placeholder; it never becomes part of the text.
package struct Query: ExpressibleByStringInterpolation, Sendable {
    /// The SQL text around the placeholders. There is one piece more than values.
    private var pieces: [String]
    private(set) var parameters: ParameterBuffer

    /// SQL without values.
    package init(stringLiteral value: String) {
        pieces = [value]
        parameters = ParameterBuffer()
    }

    /// SQL with the interpolated values.
    package init(stringInterpolation interpolation: StringInterpolation) {
        self = interpolation.query
    }

    /// SQL from `text`. The text must be this program's own, never data from outside.
    package init(unsafeSQL text: String) {
        self.init(stringLiteral: text)
    }

    /// The text that PostgreSQL parses, with `$1`, `$2`, … in place of the values.
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

    /// Requires that no value or text contains NUL, at which C would cut it off.
    ///
    /// - Throws: ``PostgresError`` `.invalidParameter`.
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

        /// An empty query.
        package init(literalCapacity: Int, interpolationCount: Int) {}

        /// Appends SQL text.
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

        /// Inserts a part of a query with its values. Their placeholders get the next numbers.
        package mutating func appendInterpolation(_ part: Query) {
            query.append(text: part.pieces[0])
            query.pieces.append(contentsOf: part.pieces.dropFirst())
            query.parameters.append(contentsOf: part.parameters)
        }

        /// Inserts `text` unchanged. It is for names and keywords of this program, never for data from outside.
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

/// The bound values of a query in PostgreSQL's text format, in one buffer. Each value ends with NUL, for libpq.
struct ParameterBuffer: Sendable {
    private var bytes: [UInt8] = []
    /// The start of each value in `bytes`; `nil` is SQL's NULL.
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

    /// Calls `body` with the values as an array of C strings for libpq, valid during the call.
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
