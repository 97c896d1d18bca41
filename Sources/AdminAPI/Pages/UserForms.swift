import Domain
import HTTPSupport
import Storage

/// The forms of a user's pages: what they show, and the bodies that they send to the API's operations.
enum UserForm {
    static let plans = ["starter", "pro", "agency"]
    static let statuses = ["active", "suspended"]
    private static let amounts = ["requests", "tokens", "budget"]

    /// The form that creates a user.
    static func creation(_ form: PageForm) -> JSON {
        [
            "name": form.field("name", id: "new-name"), "email": form.field("email", id: "new-email"),
            // What was typed as a password is never sent back.
            "password": form.field("password", id: "new-password").merging(["value": .null]),
            "plan": form.choice("plan", id: "new-plan", of: plans, "starter"),
            "is_admin": form.isTicked("is_admin", false), "problem": form.problem, "is_open": .bool(form.isRefused),
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

    /// The form that changes `user`.
    static func profile(_ form: PageForm, of user: JSON) -> JSON {
        [
            "name": form.field("name", user["name"] ?? .null), "email": form.field("email", user["email"] ?? .null),
            "plan": form.choice("plan", of: plans, user["plan"]?.text),
            "status": form.choice("status", of: statuses, user["status"]?.text, kind: "status"),
            "is_admin": form.isTicked("is_admin", user["is_admin"] == true),
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

    /// The form that sets limits.
    static func limits(_ form: PageForm, of own: OwnLimits) -> JSON {
        let windows: [JSON] = own.windows.map { window in
            let period = window.period.rawValue
            let standing = [
                window.requests.map { "\($0)" }, window.tokens.map { "\($0)" },
                window.budget.map { Money($0)?.description ?? $0 },
            ]
            let plan = [window.planRequests, window.planTokens, nil]
            let fields: [JSON] = amounts.enumerated().map { index, amount in
                form.field("\(period)_\(amount)", standing[index].json).merging([
                    "text": .string("measure_\(amount)"), "is_budget": .bool(amount == "budget"),
                    "plan": plan[index].json,
                ])
            }
            return ["window": .string("window_\(period)"), "fields": .array(fields)]
        }
        let names = (own.models?.joined(separator: "\n")).json
        return [
            "windows": .array(windows), "models": form.field("models", names),
            "models_before": form.field("models_before", names),
        ]
    }
}
