/// Input that breaks rules: each field with what is wrong with it, in the order of the fields; answered 422.
package struct ValidationError: Error, Sendable, Hashable {
    /// One field and its broken rules, a sentence each.
    package struct Field: Sendable, Hashable {
        package let name: String
        package let messages: [String]
    }

    package private(set) var fields: [Field] = []

    package init() {}

    /// One field with one broken rule.
    package init(_ name: String, _ message: String) {
        add(name, [message])
    }

    /// Notes what is wrong with a field; nothing where `messages` is empty.
    package mutating func add(_ name: String, _ messages: [String]) {
        if !messages.isEmpty { fields.append(Field(name: name, messages: messages)) }
    }

    package var isEmpty: Bool { fields.isEmpty }

    /// Laravel's summary: the first sentence, and how many more there are.
    package var summary: String {
        let messages = fields.flatMap(\.messages)
        guard let first = messages.first else { return "The given data was invalid." }
        let rest = messages.count - 1
        return rest == 0 ? first : "\(first) (and \(rest) more error\(rest == 1 ? "" : "s"))"
    }

    /// `{field: [sentence…]}`, as Laravel writes it.
    package var json: JSON {
        .object(fields.map { .init($0.name, .array($0.messages.map(JSON.string))) })
    }
}
