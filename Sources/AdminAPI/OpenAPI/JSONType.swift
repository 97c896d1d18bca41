import Domain
import HTTPSupport

/// A type of JSON value: how a Swift value is written, and the schema of what is written.
///
/// One description makes both, so an answer cannot differ from what `/openapi.json` says of it.
struct JSONType<Value: Sendable>: Sendable {
    let schema: JSON
    let json: @Sendable (Value) -> JSON

    init(_ schema: JSON, _ json: @escaping @Sendable (Value) -> JSON) {
        self.schema = schema
        self.json = json
    }
}

/// One member of a JSON object: its name, its type, and where its value is read.
struct Field<Object: Sendable>: Sendable {
    let name: String
    let schema: JSON
    /// Whether every object has the member.
    let isRequired: Bool
    /// The member's value; `nil` leaves the member out.
    let json: @Sendable (Object) -> JSON?

    /// - Parameters:
    ///   - name: The member's key.
    ///   - type: How its value is written.
    ///   - example: A value for the examples of `/openapi.json`; by default one that fits the schema.
    ///   - value: Reads the member's value.
    init<Value: Sendable>(
        _ name: String, _ type: JSONType<Value>, example: JSON? = nil, _ value: @escaping @Sendable (Object) -> Value
    ) {
        self.init(name, example.map(type.schema.withExample) ?? type.schema, isRequired: true) { type.json(value($0)) }
    }

    private init(
        _ name: String, _ schema: JSON, isRequired: Bool, _ json: @escaping @Sendable (Object) -> JSON?
    ) {
        self.name = name
        self.schema = schema
        self.isRequired = isRequired
        self.json = json
    }

    /// A member that is left out where `value` is `nil`.
    static func optional<Value: Sendable>(
        _ name: String, _ type: JSONType<Value>, _ value: @escaping @Sendable (Object) -> Value?
    ) -> Field {
        Field(name, type.schema, isRequired: false) { value($0).map(type.json) }
    }

    /// The same member of an outer object, in which `read` finds the object.
    func inside<Outer: Sendable>(_ read: @escaping @Sendable (Outer) -> Object) -> Field<Outer> {
        Field<Outer>(name, schema, isRequired: isRequired) { json(read($0)) }
    }
}

extension JSONType {
    /// An object with these fields and no others. `name` makes it a component of `/openapi.json`.
    static func object(_ name: String?, _ fields: [Field<Value>]) -> JSONType {
        let schema: JSON = [
            "type": "object", "properties": .object(fields.map { .init($0.name, $0.schema) }),
            "required": .array(fields.filter(\.isRequired).map { .string($0.name) }), "additionalProperties": false,
        ]
        return JSONType(name.map { schema.named($0) } ?? schema) { value in
            .object(fields.compactMap { field in field.json(value).map { .init(field.name, $0) } })
        }
    }

    /// Null where there is no value.
    static func nullable<Wrapped: Sendable>(_ type: JSONType<Wrapped>) -> JSONType where Value == Wrapped? {
        JSONType(Schema.optional(type.schema)) { $0.map(type.json) ?? .null }
    }

    static func list<Element: Sendable>(_ type: JSONType<Element>) -> JSONType where Value == [Element] {
        JSONType(Schema.list(type.schema)) { .array($0.map(type.json)) }
    }

    /// An object whose keys are data, in their order.
    static func map<Element: Sendable>(of type: JSONType<Element>) -> JSONType
    where Value == [(key: String, value: Element)] {
        JSONType(Schema.map(of: type.schema)) { pairs in
            .object(pairs.map { .init($0.key, type.json($0.value)) })
        }
    }
}

extension JSONType where Value: BinaryInteger {
    static var integer: JSONType { JSONType(Schema.integer) { .integer($0) } }
}

extension JSONType<Bool> {
    static var boolean: JSONType { JSONType(Schema.boolean, JSON.bool) }
}

extension JSONType<Double> {
    /// The shortest literal that reads back as the same number.
    static var number: JSONType { JSONType(Schema.number) { .number($0.jsonLiteral) } }
}

extension JSONType<String> {
    static var string: JSONType { JSONType(Schema.string, JSON.string) }

    static func choice(_ words: [String], _ name: String? = nil) -> JSONType {
        let schema = Schema.choice(words)
        return JSONType(name.map { schema.named($0) } ?? schema, JSON.string)
    }
}

extension JSONType<Timestamp> {
    /// RFC 3339.
    static var time: JSONType { JSONType(Schema.time) { .string($0.rfc3339) } }
    /// RFC 3339 with microseconds, as Laravel writes it.
    static var laravelTime: JSONType { JSONType(Schema.time) { .string($0.laravelText) } }
}

extension JSONType<Money> {
    /// USD, exact, as text.
    static var money: JSONType { JSONType(Schema.money) { .string($0.description) } }
    /// USD as Laravel's column has it: six decimals, as text.
    static var laravelMoney: JSONType { JSONType(Schema.money) { .string($0.laravelText) } }
    /// USD as a number, as Laravel's sums have it.
    static var moneyNumber: JSONType { JSONType(Schema.number) { .number($0.description) } }
}

extension JSONType<JSON> {
    /// Any value, as it is.
    static var anything: JSONType { JSONType(Schema.anything) { $0 } }
}

extension Double {
    /// The shortest literal that reads back as the same number, whole numbers without a point.
    var jsonLiteral: String { self == rounded() && magnitude < 1e15 ? String(Int64(self)) : description }
}

extension Timestamp? {
    /// RFC 3339, or null.
    var json: JSON { map { .string($0.rfc3339) } ?? .null }
}
