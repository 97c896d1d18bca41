import Domain
import HTTPSupport
import HTTPTypes
import Storage

/// The operator's page of plans, models and prices. Its forms are one: the field `form` names what they change.
struct PlanPages: Sendable {
    private static let path = "/operator/plans"
    private static let changes = ["plan_limits", "model_added", "model_changed", "free_added", "free_removed"]

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer { try await page(request, nil) }

    @Sendable func change(_ request: PageRequest) async throws -> PageAnswer {
        let changes = ["plan": setPlan, "model": setModel, "free": setFree]
        let form = request.field("form") ?? ""
        guard let change = changes[form] else { throw AppError(.invalid, "There is no such form.") }
        do {
            return .redirect("\(Self.path)?done=\(try await change(request))")
        } catch {
            // A plan is named by its name, a model by its id.
            let subject = form == "plan" ? request.field("plan") : form == "model" ? request.field("id") : nil
            guard let refusal = FormRefusal(error, form: form, subject: subject) else { throw error }
            return try await page(request, refusal)
        }
    }

    private func page(_ request: PageRequest, _ refusal: FormRefusal?) async throws -> PageAnswer {
        let plans = try await request.json("listPlans").members ?? []
        let models = try await request.json("listAllModels")
        let free = try await request.json("listFreeModels")["free_models"] ?? []
        let chosen = refusal?.form == "model" ? refusal?.subject : request.query("model")
        let model = models.elements?.first { $0["id"] == chosen.flatMap { Int64($0) }.json && chosen != nil }
        let freeForm = PageForm("free", of: request, refusal)
        return .page(
            "plans",
            [
                "done": request.done(Self.changes),
                "plans": .array(
                    plans.map { plan in
                        Self.form(
                            PageForm("plan", changing: plan.key, of: request, refusal), plan.key, plan.value)
                    }),
                "models": models, "has_no_models": .bool(models.elements?.isEmpty != false),
                "model_form": Self.form(
                    PageForm("model", changing: model?["id"].flatMap(\.scalarText), of: request, refusal), of: model),
                "free_models": .array((free.elements ?? []).map { ["model": $0] }),
                "free_form": ["problem": freeForm.problem, "model": freeForm.field("model", id: "free-model")],
            ], status: refusal?.status ?? .ok)
    }

    private static func form(_ form: PageForm, _ plan: String, _ limits: JSON) -> JSON {
        let fields = QuotaPeriod.allCases.flatMap { period in
            ["tokens", "requests"].map { amount in
                let name = "\(period.rawValue)_\(amount)"
                return form.field(
                    name, id: "\(plan)-\(period.rawValue)-\(amount)", limits[period.rawValue]?[amount] ?? .null
                ).merging(["text": .string("plans_\(name)")])
            }
        }
        return ["plan": .string(plan), "problem": form.problem, "fields": .array(fields)]
    }

    private static func form(_ form: PageForm, of model: JSON?) -> JSON {
        func field(_ name: String, _ id: String) -> JSON { form.field(name, id: id, model?[name] ?? .null) }
        return [
            "model_number": model?["id"] ?? .null, "is_new": .bool(model == nil), "problem": form.problem,
            "name": field("name", "model-name"), "model_id": field("model_id", "model-id"),
            "cost_per_1k_tokens": field("cost_per_1k_tokens", "model-cost"),
            "description": field("description", "model-description"),
            "is_available": form.isTicked("availability", model?["availability"] != false),
        ]
    }

    private func setPlan(_ request: PageRequest) async throws -> String {
        let windows = QuotaPeriod.allCases.map { period in
            JSON.Member(
                period.rawValue,
                [
                    "tokens": request.field("\(period.rawValue)_tokens").json,
                    "requests": request.field("\(period.rawValue)_requests").json,
                ])
        }
        _ = try await request.json(
            "setPlanLimits", [("plan", request.field("plan") ?? "")], body: .object(windows))
        return "plan_limits"
    }

    private func setModel(_ request: PageRequest) async throws -> String {
        let body: JSON = [
            "name": .string(request.field("name") ?? ""), "model_id": .string(request.field("model_id") ?? ""),
            "cost_per_1k_tokens": .string(request.field("cost_per_1k_tokens") ?? ""),
            "availability": .bool(request.field("availability") != nil),
            "description": request.field("description").json,
        ]
        if let id = request.field("id") {
            _ = try await request.json("updateModel", [("id", id)], body: body)
            return "model_changed"
        }
        _ = try await request.json("createModel", body: body)
        return "model_added"
    }

    private func setFree(_ request: PageRequest) async throws -> String {
        let isFree = request.field("is_free") == "true"
        _ = try await request.json(
            "setFreeModel", body: ["model": .string(request.field("model") ?? ""), "is_free": .bool(isFree)])
        return isFree ? "free_added" : "free_removed"
    }
}
