import Domain
import Foundation
import LiteLLM
import TestSupport

/// The text of events with holes, which the load generator fills for each event. A filled hole always has the same
/// length, so that all requests of a template have the same `Content-Length`.
struct EventTemplate: Sendable {
    /// A hole in a template. `scripts/wrk.lua` knows the letters.
    enum Hole: String, CaseIterable {
        /// Begins an event. The holes after it get the next id, user and time.
        case nextEvent = "N"
        case id = "I"
        case userID = "U"
        case key = "K"
        case keyHash = "H"
        case start = "S"
        case end = "E"

        /// The number of bytes of a filled hole.
        var length: Int {
            switch self {
            case .nextEvent: 0
            case .id: 36
            case .userID: 5
            case .key: 67
            case .keyHash: 64
            case .start, .end: 17
            }
        }

        var mark: String { "\u{1}\(rawValue)" }
    }

    /// The events that a benchmark sends.
    enum Kind: Sendable {
        /// The documented event with `event_id`, 0.3 KB.
        case documented
        /// LiteLLM's events as captured, except for the holes, 13 KB.
        case captured
        /// The same without the long parts, 2 KB.
        case trimmed
    }

    /// The events. Each begins with ``Hole/nextEvent``.
    let events: [String]

    /// Reads the captured events.
    ///
    /// - Throws: `Fixtures.Missing` when there are none; what Foundation throws for a body that is no JSON.
    static func load(_ kind: Kind) throws -> EventTemplate {
        let events =
            switch kind {
            case .documented: [documented]
            case .captured: try CapturedEvent.all().map(\.template)
            case .trimmed: try CapturedEvent.all().map { try $0.trimmed.template }
            }
        return EventTemplate(events: events)
    }

    /// The body of a request: one event as it is, several as an array.
    func body(of count: Int) -> String {
        guard count > 1 else { return events[0] }
        return "[" + (0..<count).map { events[$0 % events.count] }.joined(separator: ", ") + "]"
    }

    /// The number of bytes of a body with filled holes.
    static func length(of body: String) -> Int {
        Hole.allCases.reduce(body.utf8.count) { length, hole in
            length + (hole.length - hole.mark.utf8.count) * (body.components(separatedBy: hole.mark).count - 1)
        }
    }

    private static let documented = """
        \(Hole.nextEvent.mark){"event_id": "\(Hole.id.mark)", "user_id": "\(Hole.key.mark)", "model": "gpt-4", \
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}, "cost": 0.0015, \
        "response_time": 1.25, "status": "success"}
        """
}

/// One event as LiteLLM posted it.
struct CapturedEvent: Sendable {
    private static let version = "1.109.1/"
    /// Prompt, answer, price map and their copies: more than two thirds of an event, and nothing that is billed.
    private static let longParts: Set = [
        "cost_breakdown", "hidden_params", "messages", "model_map_information", "requester_metadata", "response",
        "traceback",
    ]

    let json: String

    /// Every captured body of one event with a known user, so that it becomes a log.
    ///
    /// - Throws: `Fixtures.Missing` when there is none.
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

    /// The event with holes for its ids, its user, the hash of the user's key, and its times.
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
