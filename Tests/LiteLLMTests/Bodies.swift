import Domain
import LiteLLM
import Testing

/// Ten minutes after the last captured event.
let captured = Arrival(at: Timestamp(microseconds: 1_795_422_200_000_000), retention: .seconds(400 * 86_400))

extension EventParser {
    /// Parses a text that arrived at the time of the fixtures.
    static func parse(_ body: String, arrival: Arrival = captured) -> ParsedBody {
        parse(Array(body.utf8), arrival: arrival)
    }
}

extension ParsedBody {
    var events: [UsageEvent] { results.compactMap { try? $0.get() } }

    var rejections: [Rejection] {
        results.compactMap { result in
            guard case .failure(let rejection) = result else { return nil }
            return rejection
        }
    }

    /// The facts of the only result, stored or rejected.
    func onlyEvent() throws -> UsageEvent {
        try #require(results.count == 1)
        return try #require(events.first ?? rejections.first?.event)
    }

    /// The only result's reason for rejection.
    func onlyReason() throws -> QuarantineReason? {
        try #require(results.count == 1)
        return rejections.first?.reason
    }
}

/// A LiteLLM event that is stored; `members` are added to it, or replace what it says.
func proxyEvent(_ members: String = "") -> String {
    """
    {"id": "i", "litellm_call_id": "c", "call_type": "acompletion", "stream": null, "status": "success", \
    "response_cost": 0.0015, "prompt_tokens": 10, "completion_tokens": 20, "startTime": 1795420742.5, \
    "endTime": 1795420743.25, "completionStartTime": 1795420742.75, "model": "openai/gpt-4", "model_group": "gpt-4", \
    "metadata": {"user_api_key_hash": "cf_key1", "user_api_key_user_id": "42"}\(members.isEmpty ? "" : ", ")\(members)}
    """
}

/// A documented event that is stored; `members` are added to it, or replace what it says.
func documentedEvent(_ members: String = "") -> String {
    """
    {"user_id": "cf_key1", "model": "gpt-4", "usage": {"prompt_tokens": 100, "completion_tokens": 50}, "cost": 0.0015, \
    "response_time": 1.25, "status": "success"\(members.isEmpty ? "" : ", ")\(members)}
    """
}

/// A small generator with a seed (Steele et al., 2014), so that a failing run can be repeated.
struct SplitMix: RandomNumberGenerator, Sendable {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
