import Domain
import Foundation
import LiteLLM
import TestSupport

/// One event as LiteLLM posted it (`litellm.md` §4).
struct CapturedEvent: Sendable {
    private static let version = "1.109.1/"
    /// Prompt, answer, price map and what repeats them: two thirds of an event and more, and nothing that is billed.
    private static let longParts: Set = [
        "cost_breakdown", "hidden_params", "messages", "model_map_information", "requester_metadata", "response",
        "traceback",
    ]

    let json: String

    /// Every captured body of one event whose caller is known, so that it becomes a row.
    ///
    /// Throws `Fixtures.Missing`.
    static func all() throws -> [CapturedEvent] {
        try Fixtures.litellm().filter { $0.name.hasPrefix(version) }.compactMap { body in
            let results = EventParser.parse(
                body.bytes, arrival: Arrival(at: UsageEvent.sampleTime, retention: .seconds(400 * 86_400))
            ).results
            guard results.count == 1, case .success(let event) = results[0], !event.identity.keyHashes.isEmpty,
                event.identity.userID != nil
            else { return nil }
            let text = String(decoding: body.bytes, as: UTF8.self)
            return CapturedEvent(
                json: String(text.drop { $0 != "{" }.prefix(through: text.lastIndex(of: "}") ?? text.startIndex)))
        }
    }

    /// Without the long parts, and without members that are null.
    var trimmed: CapturedEvent {
        get throws {
            let object = Self.trim(try JSONSerialization.jsonObject(with: Data(json.utf8)))
            let data = try JSONSerialization.data(
                withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
            return CapturedEvent(json: String(decoding: data, as: UTF8.self))
        }
    }

    private static func trim(_ value: Any) -> Any {
        guard let object = value as? [String: Any] else { return value }
        return object.filter { !longParts.contains($0.key) && !($0.value is NSNull) }.mapValues(trim)
    }

    /// The event with holes for its ids, its caller, who is told by the hash of the key, and its times.
    var template: String {
        var text = json
        for (member, hole) in [
            ("litellm_call_id", EventTemplate.Hole.id), ("user_api_key_hash", .keyHash),
            ("user_api_key_user_id", .userID),
        ] {
            text = text.replacingOccurrences(
                of: "(\"\(member)\" ?: ?)\"[^\"]+\"", with: "$1\"\(hole.mark)\"", options: .regularExpression)
        }
        for (member, hole) in [
            ("laravel_user_id", EventTemplate.Hole.userID), ("startTime", .start), ("endTime", .end),
            ("completionStartTime", .end),
        ] {
            text = text.replacingOccurrences(
                of: "(\"\(member)\" ?: ?)[0-9.e+]+", with: "$1\(hole.mark)", options: .regularExpression)
        }
        return EventTemplate.Hole.nextEvent.mark + text
    }
}
