import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// Why the API refused a form: for each field the name of a text that says what it takes.
struct FormProblems: Sendable {
    let fields: [String: String]
    /// The text for what no field is about.
    let general: String?
    let status: HTTPResponse.Status

    static let none = FormProblems(fields: [:], general: nil, status: .ok)

    private init(fields: [String: String], general: String?, status: HTTPResponse.Status) {
        (self.fields, self.general, self.status) = (fields, general, status)
    }

    /// The problems that `error` states.
    ///
    /// - Throws: `error` where the form is not the reason.
    init(_ error: any Error) throws {
        switch error {
        case let error as ValidationError:
            let names = error.fields.map { $0.name.replacing(".", with: "_") }
            self.init(
                fields: Dictionary(names.map { ($0, "wrong_\($0)") }) { first, _ in first }, general: "form_refused",
                status: .unprocessableContent)
        case let error as AppError where error.code == .conflict:
            let isTaken = error.message.contains("e-mail")
            self.init(
                fields: isTaken ? ["email": "email_taken"] : [:], general: isTaken ? "form_refused" : "last_operator",
                status: .conflict)
        case let error as AppError where error.code == .invalid:
            self.init(fields: [:], general: "form_invalid", status: .unprocessableContent)
        default: throw error
        }
    }

    /// The text of each field.
    var json: JSON { .object(fields.map { .init($0.key, .string($0.value)) }) }
}

/// A choice of a form's list.
enum FormOption {
    /// The choices, of which `chosen` is selected. The text of a choice is `kind`, an underscore, and its value.
    static func list(_ values: [String], _ chosen: String?, kind: String = "plan") -> JSON {
        .array(
            values.map { value in
                ["value": .string(value), "text": .string("\(kind)_\(value)"), "is_selected": .bool(value == chosen)]
            })
    }
}

/// The forms of a user's pages: what they show, and the bodies that they send to the API's operations.
enum UserForm {
    static let plans = ["starter", "pro", "agency"]
    static let statuses = ["active", "suspended"]
    private static let amounts = ["requests", "tokens", "budget"]

    /// The form that creates a user, with what was typed in `request`.
    static func creation(of request: PageRequest?, _ problems: FormProblems) -> JSON {
        [
            "name": request?.field("name").json ?? .null, "email": request?.field("email").json ?? .null,
            "plans": FormOption.list(plans, request?.field("plan") ?? "starter"),
            "is_admin": .bool(request?.field("is_admin") != nil), "problems": problems.json,
            "problem": problems.general.json, "is_open": .bool(request != nil),
        ]
    }

    /// The body that creates a user.
    static func newUser(_ request: PageRequest) -> JSON {
        let password = request.form.last { $0.name == "password" }?.value ?? ""
        return profile(request).merging(password.isEmpty ? [:] : ["password": .string(password)])
    }

    /// The body that changes a user.
    static func profile(_ request: PageRequest) -> JSON {
        var members: [JSON.Member] = ["name", "email", "plan"].map {
            .init($0, .string(request.field($0) ?? ""))
        }
        members.append(.init("is_admin", .bool(request.field("is_admin") != nil)))
        if let status = request.field("status") { members.append(.init("status", .string(status))) }
        return .object(members)
    }

    /// The form that changes `user`, with what was typed in its place.
    static func profile(_ user: JSON, typed request: PageRequest?, _ problems: FormProblems) -> JSON {
        func value(_ name: String) -> String? { request == nil ? user[name]?.text : request?.field(name) }
        return [
            "name": value("name").json, "email": value("email").json,
            "plans": FormOption.list(plans, value("plan")),
            "statuses": FormOption.list(statuses, value("status"), kind: "status"),
            "is_admin": .bool(request.map { $0.field("is_admin") != nil } ?? (user["is_admin"] == true)),
            "problems": problems.json,
        ]
    }

    /// The body that sets limits. An empty field is null: the plan's limit, or no budget.
    static func limits(_ request: PageRequest) -> JSON {
        let windows = QuotaPeriod.allCases.map { period in
            JSON.Member(
                period.rawValue,
                .object(amounts.map { .init($0, request.field("\(period.rawValue)_\($0)").json) }))
        }
        // An empty field means all models. A user who may call none has an empty field too, so it must have changed.
        let isChanged = request.field("models") != request.field("models_before")
        return .object(windows + (isChanged ? [.init("models", models(request.field("models")))] : []))
    }

    private static func models(_ text: String?) -> JSON {
        guard let text else { return .null }
        let names = text.split(whereSeparator: \.isNewline).map { String($0.trimmingSpaces) }.filter { !$0.isEmpty }
        return .array(names.map(JSON.string))
    }

    /// The form that sets limits, with what was typed in its place.
    static func limits(_ own: OwnLimits, typed request: PageRequest?, _ problems: FormProblems) -> JSON {
        let windows: [JSON] = own.windows.map { window in
            let period = window.period.rawValue
            let present = [
                window.requests.map { "\($0)" }, window.tokens.map { "\($0)" },
                window.budget.map { Money($0)?.description ?? $0 },
            ]
            let plan = [window.planRequests, window.planTokens, nil]
            let fields: [JSON] = amounts.enumerated().map { index, amount in
                let name = "\(period)_\(amount)"
                return [
                    "name": .string(name), "text": .string("measure_\(amount)"), "is_budget": .bool(amount == "budget"),
                    "value": (request == nil ? present[index] : request?.field(name)).json,
                    "plan": plan[index].json, "problem": problems.fields[name].json,
                ]
            }
            return ["window": .string("window_\(period)"), "fields": .array(fields)]
        }
        let names = request == nil ? own.models?.joined(separator: "\n") : request?.field("models")
        let before = request == nil ? names : request?.field("models_before")
        return [
            "windows": .array(windows), "models": names.json, "models_before": before.json,
            "problem": problems.fields["models"].json,
        ]
    }
}
