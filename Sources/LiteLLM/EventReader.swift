internal import CSimdjson

/// Reads the ``Field``s of one JSON object after another, with simdjson's on-demand parser.
struct EventReader: ~Copyable {
    /// Why an object cannot be read.
    enum Failure: Error {
        /// Not UTF-8, or a control character inside a string.
        case invalidText
        case invalidJSON
    }

    private let reader = csimdjson_reader_create()
    private let values = UnsafeMutableBufferPointer<csimdjson_value>.allocate(capacity: Field.allCases.count)

    deinit {
        values.deallocate()
        csimdjson_reader_destroy(reader)
    }

    /// The fields of the object `text`, which live until the next read.
    ///
    /// `readable` is how many bytes may be read from the beginning of `text` on: what follows it serves as padding.
    /// Throws ``Failure``.
    func read(_ text: UnsafeRawBufferPointer, readable: Int) throws(Failure) -> EventFields {
        let start = text.assumingMemoryBound(to: CChar.self).baseAddress
        switch csimdjson_read(reader, Self.schema.pointer, start, text.count, readable, values.baseAddress) {
        case CSIMDJSON_OK: return EventFields(values: UnsafeBufferPointer(values))
        case CSIMDJSON_INVALID_TEXT: throw .invalidText
        default: throw .invalidJSON
        }
    }

    /// Lives as long as the process.
    private static let schema = Schema()

    private struct Schema: @unchecked Sendable {
        /// Immutable, as the header promises.
        let pointer: OpaquePointer?

        init() {
            let members = Field.allCases.map(\.member)
            let names = members.map { member in
                let name = UnsafeMutableBufferPointer<CChar>.allocate(capacity: member.name.utf8.count + 1)
                _ = name.initialize(from: member.name.utf8.map { CChar(bitPattern: $0) } + [0])
                return name
            }
            defer { names.forEach { $0.deallocate() } }
            let fields = zip(members, names).map { member, name in
                csimdjson_field(name: name.baseAddress, parent: Int32(member.parent?.rawValue ?? -1))
            }
            pointer = csimdjson_schema_create(fields, fields.count)
        }
    }
}

/// The fields that one object has.
struct EventFields {
    fileprivate let values: UnsafeBufferPointer<csimdjson_value>

    subscript(field: Field) -> JSONValue {
        let value = values[field.rawValue]
        return JSONValue(bytes: UnsafeRawBufferPointer(start: value.start, count: value.length))
    }

    /// The first of `fields` that is stated.
    func first(_ fields: Field...) -> JSONValue {
        fields.lazy.map { self[$0] }.first { $0.isStated } ?? .absent
    }
}
