import Domain
import HTTPSupport

/// What may be called with a key, as JSON; a limit that is null is none, money is a decimal string.
struct CallAnswer {
    let allowed: Bool
    let json: JSON

    /// The answer about a key; `nil` where nobody holds it.
    init(_ authorization: CallAuthorization?) {
        let reason = authorization.map { $0.refusal?.rawValue } ?? "unknown_key"
        allowed = reason == nil
        json = [
            "user_id": (authorization?.userID).json, "name": (authorization?.name).json,
            "plan": (authorization?.plan).json, "status": (authorization?.status).json,
            "allowed": .bool(reason == nil), "reason": reason.json,
            "models": (authorization?.models).map { .array($0.map(JSON.string)) } ?? .null,
            "windows": .array((authorization?.windows ?? []).map(\.json)),
        ]
    }
}

extension CallAuthorization.Window {
    fileprivate var json: JSON {
        [
            "period": .string(period.rawValue), "resets_at": .string(resetsAt.rfc3339),
            "requests": requests.json { .integer($0) }, "tokens": tokens.json { .integer($0) },
            "cost": isComputable
                ? cost.json { .string($0.description) } : ["limit": nil, "used": nil, "remaining": "0"],
        ]
    }
}

extension CallAuthorization.Allowance where Amount: Comparable & AdditiveArithmetic {
    fileprivate func json(_ amount: (Amount) -> JSON) -> JSON {
        ["limit": limit.map(amount) ?? .null, "used": amount(used), "remaining": remaining.map(amount) ?? .null]
    }
}
