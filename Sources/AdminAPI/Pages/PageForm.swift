import Domain
import HTTPSupport
import HTTPTypes
import NIOCore

/// A form that was refused: which one, and the text that says what is wrong with each of its fields.
struct FormRefusal: Error, Sendable {
    /// The value of the form's field `form`.
    let form: String
    /// What the form changes, such as a plan's name.
    let subject: String?
    let status: HTTPResponse.Status
    /// The name of a text for each field; under ``whole`` for the form itself.
    let problems: [String: String]

    /// The key of a problem of the form itself.
    static let whole = "form"

    /// Fields of `form` whose values break rules.
    init(form: String, subject: String? = nil, problems: [String: String]) {
        (self.form, self.subject, self.problems) = (form, subject, problems)
        status = .unprocessableContent
    }

    /// What an operation that threw `error` says of the form; `nil` for an error that no form explains.
    ///
    /// A broken rule of the field `name` has the text `invalid_name`.
    ///
    /// `causes` are the texts of the failures that the operation itself can have.
    init?(_ error: any Error, form: String, subject: String? = nil, causes: [AppError.Code: String] = [:]) {
        (self.form, self.subject) = (form, subject)
        switch error {
        case let error as ValidationError:
            status = .unprocessableContent
            problems = Dictionary(error.fields.map { ($0.name, "invalid_\($0.name)") }) { first, _ in first }
        case let error as AppError:
            guard let text = causes[error.code] else { return nil }
            status = error.code == .conflict ? .conflict : .unprocessableContent
            problems = [Self.whole: text]
        default: return nil
        }
    }
}

extension PageRequest {
    /// What a template shows of the form `form`: for each field its `value` and `problem`, and the `problem` of the
    /// form itself. A refused form keeps what was typed.
    func fields(
        of form: String, _ names: [String], changing subject: String? = nil, _ refusal: FormRefusal?,
        standing: (String) -> JSON
    ) -> JSON {
        let refusal = refusal.flatMap { $0.form == form && $0.subject == subject ? $0 : nil }
        let members = names.map { name in
            let value = refusal == nil ? standing(name) : field(name).json
            return JSON.Member(name, ["value": value, "problem": (refusal?.problems[name]).json])
        }
        return .object(members + [.init("problem", (refusal?.problems[FormRefusal.whole]).json)])
    }

    /// The text about what a form has done, of those that `known` names; null without one.
    func done(_ known: [String]) -> JSON {
        guard let done = query("done"), known.contains(done) else { return .null }
        return .string("done_\(done)")
    }

    /// The query of the next page of `list`, which keeps the fields `kept`; null on the last page.
    func next(of list: JSON, _ cursor: String = "cursor", keeping kept: [String]) -> JSON {
        guard let next = list["next_cursor"]?.text else { return .null }
        let fields = query(kept) + [(cursor, next)]
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
