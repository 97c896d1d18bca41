import Domain
import Foundation
import LiteLLM
import TestSupport

/// The text of events with holes, which the load generator fills for each event anew. What fills a hole has always the
/// same length, so that all requests of one template have the same `Content-Length`.
struct EventTemplate: Sendable {
    /// What is missing in a template, as `scripts/wrk.lua` knows it.
    enum Hole: String, CaseIterable {
        /// Begins an event: the holes after it are of the next id, person and time.
        case nextEvent = "N"
        case id = "I"
        case userID = "U"
        case key = "K"
        case keyHash = "H"
        case start = "S"
        case end = "E"

        /// Bytes of what fills it.
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

    /// Which events a benchmark sends.
    enum Kind: Sendable {
        /// The flat documented shape with `event_id`, 0.3 KB.
        case documented
        /// LiteLLM's events byte for byte, 13 KB, but for what the holes replace.
        case captured
        /// The same without the long parts, as a sender leaves them out that wants to be light: 2 KB.
        case trimmed
    }

    /// Each begins with ``Hole/nextEvent``.
    let events: [String]

    /// - Throws: `Fixtures.Missing`; what Foundation throws for a body that is no JSON.
    init(_ kind: Kind) throws {
        events =
            switch kind {
            case .documented: [Self.documented]
            case .captured: try CapturedEvent.all().map(\.template)
            case .trimmed: try CapturedEvent.all().map { try $0.trimmed.template }
            }
    }

    /// A request's body: one event as it is, more of them as an array.
    func body(of count: Int) -> String {
        guard count > 1 else { return events[0] }
        return "[" + (0..<count).map { events[$0 % events.count] }.joined(separator: ", ") + "]"
    }

    /// Bytes of a body once its holes are filled.
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
