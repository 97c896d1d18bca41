import Domain
import Foundation

/// The JSON of what may be called with a key; a limit that is null is none, money is a decimal string.
struct CallAnswer: Encodable {
    private struct Allowance<Amount: Encodable>: Encodable {
        let limit: Amount?
        let used: Amount
        let remaining: Amount?

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(limit, forKey: .limit)
            try container.encode(used, forKey: .used)
            try container.encode(remaining, forKey: .remaining)
        }

        private enum CodingKeys: CodingKey {
            case limit, used, remaining
        }
    }

    private struct Window: Encodable {
        let period: String
        let resetsAt: String
        let requests: Allowance<Int64>
        let tokens: Allowance<Int64>
        let cost: Allowance<String>

        private enum CodingKeys: String, CodingKey {
            case period, requests, tokens, cost
            case resetsAt = "resets_at"
        }
    }

    private enum CodingKeys: String, CodingKey {
        case name, plan, status, allowed, reason, models, windows
        case userID = "user_id"
    }

    let allowed: Bool
    private let authorization: CallAuthorization?
    private let reason: String?
    private let windows: [Window]

    /// The answer about a key that nobody holds.
    init() {
        (authorization, allowed, reason, windows) = (nil, false, "unknown_key", [])
    }

    init(known authorization: CallAuthorization) {
        self.authorization = authorization
        reason = authorization.refusal?.rawValue
        allowed = reason == nil
        windows = authorization.windows.map { window in
            let (requests, tokens, cost) = (window.requests, window.tokens, window.cost)
            return Window(
                period: window.period.rawValue,
                resetsAt: Date(timeIntervalSince1970: Double(window.resetsAt.microseconds) / 1e6).formatted(.iso8601),
                requests: Allowance(limit: requests.limit, used: requests.used, remaining: requests.remaining),
                tokens: Allowance(limit: tokens.limit, used: tokens.used, remaining: tokens.remaining),
                cost: Allowance(
                    limit: cost.limit?.description, used: cost.used.description,
                    remaining: cost.remaining?.description))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(authorization?.userID, forKey: .userID)
        try container.encode(authorization?.name, forKey: .name)
        try container.encode(authorization?.plan, forKey: .plan)
        try container.encode(authorization?.status, forKey: .status)
        try container.encode(allowed, forKey: .allowed)
        try container.encode(reason, forKey: .reason)
        try container.encode(authorization?.models, forKey: .models)
        try container.encode(windows, forKey: .windows)
    }
}
