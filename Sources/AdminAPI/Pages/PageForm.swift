import Domain
import HTTPSupport
import HTTPTypes
import NIOCore

/// A form that was refused: which one, and the names of the texts that say what is wrong with it.
struct FormRefusal: Error, Sendable {
    /// The form's name on its page.
    let form: String
    /// What the form changes, such as a plan's name.
    let subject: String?
    let status: HTTPResponse.Status
    /// The text for each field that must be corrected.
    let fields: [String: String]
    /// The text for the form as a whole.
    let whole: String

    /// The causes that a form can have: the field that is wrong, and the text.
    private static let causes: [AppError.Cause: (field: String?, text: String)] = [
        .emailTaken: ("email", "email_taken"), .lastAdministrator: (nil, "last_operator"),
        .answeredBefore: (nil, "request_answered_before"),
    ]

    /// What the operation that threw `error` says of the form; `nil` for an error that no form explains.
    ///
    /// A broken rule of the field `daily.tokens` has the text `invalid_daily_tokens`.
    init?(_ error: any Error, form: String, subject: String? = nil) {
        (self.form, self.subject) = (form, subject)
        switch error {
        case let error as ValidationError:
            let names = error.fields.map { $0.name.replacing(".", with: "_") }
            status = .unprocessableContent
            fields = Dictionary(names.map { ($0, "invalid_\($0)") }) { first, _ in first }
            whole = "form_refused"
        case let error as AppError where error.code == .conflict || error.code == .invalid:
            let cause = error.cause.flatMap { Self.causes[$0] }
            guard let text = cause?.text ?? (error.code == .invalid ? "form_invalid" : nil) else { return nil }
            status = error.code == .conflict ? .conflict : .unprocessableContent
            fields = cause?.field.map { [$0: text] } ?? [:]
            whole = fields.isEmpty ? text : "form_refused"
        default: return nil
        }
    }
}

/// A form of a page: what stands in its fields, or, after it was refused, what was typed and what is wrong with it.
struct PageForm: Sendable {
    private let request: PageRequest
    private let refusal: FormRefusal?

    /// The form `name` that changes `subject`. `refusal` may be that of another form.
    init(_ name: String, changing subject: String? = nil, of request: PageRequest, _ refusal: FormRefusal?) {
        self.request = request
        self.refusal = refusal.flatMap { $0.form == name && $0.subject == subject ? $0 : nil }
    }

    /// Whether this is the form that was refused.
    var isRefused: Bool { refusal != nil }

    /// The text about the whole form; null unless it was refused.
    var problem: JSON { (refusal?.whole).json }

    /// The field `name` with the id `id` of its element; `standing` is its value before anything was typed.
    func field(_ name: String, id: String? = nil, _ standing: JSON = .null) -> JSON {
        [
            "name": .string(name), "id": .string(id ?? name), "value": isRefused ? request.field(name).json : standing,
            "problem": (refusal?.fields[name]).json,
        ]
    }

    /// The field `name`, whose value is one of `words`. The text of a word is `kind`, an underscore, and the word.
    func choice(
        _ name: String, id: String? = nil, of words: [String], _ standing: String?, kind: String? = nil
    ) -> JSON {
        let field = field(name, id: id, standing.json)
        return field.merging(FormOption.list(words, field["value"]?.text, kind: kind))
    }

    /// Whether the box `name` is ticked.
    func isTicked(_ name: String, _ standing: Bool) -> JSON { .bool(isRefused ? request.field(name) != nil : standing) }
}

/// The choices of a list in a form.
enum FormOption {
    /// The `options` of a list, of which `chosen` is selected. The text of an option is `kind`, an underscore, and its
    /// value; without a kind the value itself.
    static func list(_ values: [String], _ chosen: String?, kind: String? = nil) -> JSON {
        let options: [JSON] = values.map { value in
            let text = kind.map { "\($0)_\(value)" } ?? value
            return ["value": .string(value), "text": .string(text), "is_selected": .bool(value == chosen)]
        }
        return ["options": .array(options)]
    }
}

extension PageRequest {
    /// The text about what a form has done, of those that `known` names; null without one.
    func done(_ known: [String]) -> JSON {
        guard let done = query("done"), known.contains(done) else { return .null }
        return .string("done_\(done)")
    }

    /// The query of the next page of `list`, which keeps the fields `kept`; null on the last page.
    func next(of list: JSON, _ cursor: String = "cursor", keeping kept: [String]) -> JSON {
        guard let next = list["next_cursor"]?.text else { return .null }
        return link(keeping: kept, [(cursor, next)])
    }

    /// The query that keeps the fields `kept` and has `others`.
    func link(keeping kept: [String], _ others: [(String, String)] = []) -> JSON {
        let fields = query(kept) + others
        return .string("?" + fields.map { "\($0.0.percentEncoded)=\($0.1.percentEncoded)" }.joined(separator: "&"))
    }
}

extension JSON {
    /// The value as text for people: one member or element on a line.
    var readable: String { readable(indentation: "") }

    private func readable(indentation: String) -> String {
        let inner = indentation + "  "
        func block(_ lines: [String], _ open: String, _ close: String) -> String {
            "\(open)\n" + lines.map { inner + $0 }.joined(separator: ",\n") + "\n\(indentation)\(close)"
        }
        switch self {
        case .array(let elements) where !elements.isEmpty:
            return block(elements.map { $0.readable(indentation: inner) }, "[", "]")
        case .object(let members) where !members.isEmpty:
            let lines = members.map { member in
                "\(JSON.string(member.key).compact): \(member.value.readable(indentation: inner))"
            }
            return block(lines, "{", "}")
        default: return compact
        }
    }

    private var compact: String { String(decoding: buffer.readableBytesView, as: UTF8.self) }
}
