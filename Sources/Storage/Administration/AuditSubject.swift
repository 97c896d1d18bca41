import Postgres

/// A thing that administrators change: what it is called, the row that is held meanwhile, and how it stands.
struct AuditSubject {
    let kind: String
    let id: String
    /// Locks what the change must find as it read it.
    let lock: Query
    /// A scalar query of its state as a JSON object without secrets; NULL where it is not there.
    let state: Query

    /// A user's account. With `admins` all administrators are held too, in one order, so that of two changes at once the later
    /// one sees what the other left.
    static func user(_ id: Int64, admins: Bool = false) -> AuditSubject {
        let others: Query = admins ? "OR (is_admin AND status = 'active')" : ""
        return AuditSubject(
            kind: "user", id: "\(id)",
            lock: "SELECT FROM public.users WHERE id = \(id) \(others) ORDER BY id FOR NO KEY UPDATE",
            state: """
                SELECT jsonb_build_object('name', u.name, 'email', u.email, 'email_verified_at', u.email_verified_at,
                                          'plan', u.plan, 'status', u.status,
                                          'is_admin', u.is_admin, 'key_prefix', \(UserAccounts.keyPrefix),
                                          'key_hash', encode(sha256(convert_to(u.api_key, 'UTF8')), 'hex'))
                FROM public.users u WHERE u.id = \(id)
                """)
    }

    /// A user's own limits and models.
    static func userLimits(_ id: Int64) -> AuditSubject {
        AuditSubject(
            kind: "user_limits", id: "\(id)", lock: user(id).lock,
            state: """
                SELECT jsonb_object_agg(s.name, s.value) FROM (
                    SELECT l.period AS name, to_jsonb(l) - 'user_id' - 'period' AS value
                    FROM metering.user_limits l WHERE l.user_id = \(id)
                    UNION ALL
                    SELECT 'models', to_jsonb(m.models) FROM metering.user_models m WHERE m.user_id = \(id)
                ) s
                """)
    }

    /// The limits of a plan.
    static func planLimits(_ plan: String) -> AuditSubject {
        AuditSubject(
            kind: "plan_limits", id: plan,
            lock: "SELECT FROM metering.plan_limits WHERE plan = \(plan) ORDER BY period FOR UPDATE",
            state: """
                SELECT jsonb_object_agg(l.period, jsonb_build_object('tokens', l.tokens, 'requests', l.requests))
                FROM metering.plan_limits l WHERE l.plan = \(plan)
                """)
    }

    /// A user's wish for higher limits.
    static func limitRequest(_ id: Int64) -> AuditSubject {
        AuditSubject(
            kind: "limit_request", id: "\(id)", lock: "SELECT FROM metering.limit_requests WHERE id = \(id) FOR UPDATE",
            state:
                "SELECT jsonb_build_object('answer', r.answer, 'note', r.note) FROM metering.limit_requests r WHERE r.id = \(id)"
        )
    }

    /// A model of Laravel's list.
    static func model(_ id: Int64) -> AuditSubject {
        AuditSubject(
            kind: "model", id: "\(id)", lock: "SELECT FROM public.models WHERE id = \(id) FOR UPDATE",
            state: "SELECT to_jsonb(m) - 'id' - 'created_at' - 'updated_at' FROM public.models m WHERE m.id = \(id)")
    }

    /// A model whose cost of zero is a price.
    static func freeModel(_ model: String) -> AuditSubject {
        AuditSubject(
            kind: "free_model", id: model, lock: "SELECT FROM metering.free_models WHERE model = \(model) FOR UPDATE",
            state: "SELECT to_jsonb(m) FROM metering.free_models m WHERE m.model = \(model)")
    }
}
