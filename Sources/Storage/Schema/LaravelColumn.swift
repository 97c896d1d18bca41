/// A column of Laravel's that our statements read or write, in the type its migrations gave it (`laravel.md` §2).
struct LaravelColumn {
    let table: String
    let name: String
    let type: String
    /// Smallest length of a varchar, or integer digits and scale of a numeric.
    var length: Int64?
    var precision: (whole: Int64, scale: Int64)?

    static let tables = ["users", "api_logs", "rate_limits", "personal_access_tokens", "sessions", "models"]
    /// Those that get rows from events, which a new mandatory column would stop.
    static let fed: Set<String> = ["api_logs", "rate_limits"]

    static let needed: [LaravelColumn] =
        columns(
            of: "users",
            [
                "id": "bigint", "api_key": varchar, "plan": varchar, "status": varchar, "email": varchar,
                "email_verified_at": timestamp, "name": varchar, "password": varchar, "is_admin": "boolean",
                "created_at": timestamp, "updated_at": timestamp,
            ])
        + columns(
            of: "api_logs",
            [
                "id": "bigint", "user_id": "bigint", "model": varchar, "input_tokens": "integer",
                "output_tokens": "integer", "total_cost": "numeric", "response_time_ms": "integer",
                "status": varchar, "error_message": "text", "created_at": timestamp, "updated_at": timestamp,
            ])
        + columns(
            of: "rate_limits",
            [
                "id": "bigint", "user_id": "bigint", "period": varchar, "limit_tokens": "integer",
                "used_tokens": "integer", "limit_requests": "integer", "used_requests": "integer",
                "reset_at": timestamp, "created_at": timestamp, "updated_at": timestamp,
            ])
        + columns(
            of: "personal_access_tokens",
            [
                "id": "bigint", "tokenable_type": varchar, "tokenable_id": "bigint", "token": varchar,
                "abilities": "text",
                "last_used_at": timestamp, "expires_at": timestamp, "created_at": timestamp, "updated_at": timestamp,
            ])
        + columns(
            of: "sessions", ["id": varchar, "user_id": "bigint", "payload": "text", "last_activity": "integer"])
        + columns(
            of: "models",
            [
                "id": "bigint", "name": varchar, "model_id": varchar, "cost_per_1k_tokens": "numeric",
                "availability": "boolean", "description": "text", "created_at": timestamp, "updated_at": timestamp,
            ])

    private static let varchar = "character varying"
    private static let timestamp = "timestamp without time zone"

    /// Wider types that hold every value we write are as good.
    private static let widenings: [String: Set<String>] = [
        "integer": ["bigint", "numeric"], "bigint": ["numeric"], "character varying": ["text"],
    ]

    private static func columns(of table: String, _ types: KeyValuePairs<String, String>) -> [LaravelColumn] {
        types.map { name, type in
            LaravelColumn(
                table: table, name: name, type: type,
                // A digest of SHA-256.
                length: type == varchar ? (name == "token" ? 64 : 255) : nil,
                precision: type == "numeric" ? (4, 6) : nil)
        }
    }

    /// What is wrong with the column as it is; `nil` where our statements work with it.
    func problem(of actual: ActualColumn?) -> SchemaCheck.Finding.Problem? {
        guard let actual else { return .missing }
        if actual.isGenerated, Self.fed.contains(table) { return .generated }
        if actual.type != type {
            let isWider = Self.widenings[type]?.contains(actual.type) == true && (actual.modifier < 0)
            return isWider ? nil : .otherType(found: actual.type, needed: type)
        }
        guard actual.modifier >= 4 else { return nil }
        if let length, actual.modifier - 4 < length {
            return .tooNarrow(found: "\(type)(\(actual.modifier - 4))", needed: "\(type)(\(length))")
        }
        if let precision {
            let (digits, scale) = ((actual.modifier - 4) >> 16 & 0xFFFF, (actual.modifier - 4) & 0x7FF)
            if digits - scale < precision.whole || scale < precision.scale {
                return .tooNarrow(
                    found: "numeric(\(digits),\(scale))",
                    needed: "numeric(\(precision.whole + precision.scale),\(precision.scale))")
            }
        }
        return nil
    }
}
