import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// The operator's page of plans, models and prices. Its forms are one: the field `form` names what they change.
struct PlanPages: Sendable {
    private static let path = "/operator/plans"
    private static let limits = QuotaPeriod.allCases.flatMap { ["\($0.rawValue)_tokens", "\($0.rawValue)_requests"] }
    private static let model = ["name", "model_id", "cost_per_1k_tokens", "description"]
    private static let changes = ["plan_limits", "model_added", "model_changed", "free_added", "free_removed"]

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer { try await page(request, nil) }

    @Sendable func change(_ request: PageRequest) async throws -> PageAnswer {
        do {
            let done =
                switch request.field("form") {
                case "plan": try await setPlan(request)
                case "model": try await setModel(request)
                case "free": try await setFree(request)
                default: throw AppError(.invalid, "There is no such form.")
                }
            return .redirect("\(Self.path)?done=\(done)")
        } catch let refusal as FormRefusal {
            return try await page(request, refusal)
        }
    }

    private func page(_ request: PageRequest, _ refusal: FormRefusal?) async throws -> PageAnswer {
        let plans = try await request.json("listPlans").members ?? []
        let models = try await request.json("listAllModels")
        let free = try await request.json("listFreeModels")["free_models"] ?? []
        let chosen = refusal?.form == "model" ? refusal?.subject : request.query("model")
        let model = models.elements?.first { $0["id"] == chosen.flatMap { Int64($0) }.json && chosen != nil }
        return .page(
            "plans",
            [
                "done": request.done(Self.changes),
                "plans": .array(plans.map { Self.form(of: $0.key, $0.value, request, refusal) }), "models": models,
                "has_no_models": .bool(models.elements?.isEmpty != false),
                "model_form": Self.form(of: model, request, refusal),
                "free_models": .array((free.elements ?? []).map { ["model": $0] }),
                "free_form": request.fields(of: "free", ["model"], refusal) { _ in .null },
            ], status: refusal?.status ?? .ok)
    }

    private static func form(
        of plan: String, _ limits: JSON, _ request: PageRequest, _ refusal: FormRefusal?
    ) -> JSON {
        let fields = request.fields(of: "plan", Self.limits, changing: plan, refusal) { name in
            let parts = name.split(separator: "_")
            return limits[String(parts[0])]?[String(parts[1])] ?? .null
        }
        return JSON.object(["plan": .string(plan)]).merging(fields)
    }

    private static func form(of model: JSON?, _ request: PageRequest, _ refusal: FormRefusal?) -> JSON {
        let id = model?["id"]
        let fields = request.fields(of: "model", Self.model, changing: id.flatMap(\.idText), refusal) {
            model?[$0] ?? .null
        }
        let isTyped = refusal?.form == "model"
        let isAvailable = isTyped ? request.field("availability") != nil : model?["availability"] != false
        return JSON.object([
            "id": id ?? .null, "is_new": .bool(id == nil), "is_available": .bool(isAvailable),
        ]).merging(fields)
    }

    private func setPlan(_ request: PageRequest) async throws -> String {
        let plan = request.field("plan") ?? ""
        var problems: [String: String] = [:]
        func number(_ name: String) -> JSON {
            guard let number = request.field(name).flatMap({ Int64($0) }), number >= 0 else {
                problems[name] = "invalid_whole_number"
                return .null
            }
            return .integer(number)
        }
        let windows = QuotaPeriod.allCases.map { period in
            JSON.Member(
                period.rawValue,
                ["tokens": number("\(period.rawValue)_tokens"), "requests": number("\(period.rawValue)_requests")])
        }
        guard problems.isEmpty else { throw FormRefusal(form: "plan", subject: plan, problems: problems) }
        _ = try await request.json("setPlanLimits", [("plan", plan)], body: .object(windows))
        return "plan_limits"
    }

    private func setModel(_ request: PageRequest) async throws -> String {
        let body: JSON = [
            "name": .string(request.field("name") ?? ""), "model_id": .string(request.field("model_id") ?? ""),
            "cost_per_1k_tokens": .string(request.field("cost_per_1k_tokens") ?? ""),
            "availability": .bool(request.field("availability") != nil),
            "description": request.field("description").json,
        ]
        let id = request.field("id")
        do {
            if let id {
                _ = try await request.json("updateModel", [("id", id)], body: body)
                return "model_changed"
            }
            _ = try await request.json("createModel", body: body)
            return "model_added"
        } catch {
            throw FormRefusal(error, form: "model", subject: id, causes: [.invalid: "invalid_model_values"]) ?? error
        }
    }

    private func setFree(_ request: PageRequest) async throws -> String {
        let isFree = request.field("is_free") == "true"
        do {
            _ = try await request.json(
                "setFreeModel", body: ["model": .string(request.field("model") ?? ""), "is_free": .bool(isFree)])
        } catch {
            throw FormRefusal(error, form: "free", causes: [.invalid: "invalid_model"]) ?? error
        }
        return isFree ? "free_added" : "free_removed"
    }
}

extension JSON {
    /// The digits of an id.
    fileprivate var idText: String? { if case .number(let text) = self { text } else { nil } }
}
