import CoreMetrics
import Domain
import HTTPTypes
import LiteLLM

/// The answer to the sender of a body, after COMMIT (`docs/api.md`).
struct WebhookAnswer: Hashable {
    let status: HTTPResponse.Status
    /// The JSON text. It has only numbers and our own words, so nothing needs an escape.
    let body: String

    /// The answer to a body whose events got `verdicts`, and whose spool has the `missing` numbers.
    init(_ form: ParsedBody.Form, _ verdicts: [Verdict], missing: [ClosedRange<Int64>] = []) {
        switch form {
        case .documented: self.init(documented: verdicts.first ?? .quarantined(.unreadable))
        case .events: self.init(events: verdicts, missing: missing)
        }
    }

    private init(status: HTTPResponse.Status, body: String) {
        self.status = status
        self.body = body
    }

    /// Laravel's answers for one documented event (`docs/laravel.md`). Laravel does not know 202, which means that the
    /// event is quarantined.
    private init(documented verdict: Verdict) {
        self =
            switch verdict {
            case .stored(let id):
                .init(status: .created, body: #"{"success":true,"log_id":\#(id)}"#)
            case .duplicate(let id):
                .init(status: .ok, body: #"{"success":true,"log_id":\#(id),"duplicate":true}"#)
            case .conflict(let id):
                .init(status: .ok, body: #"{"success":true,"log_id":\#(id),"conflict":true}"#)
            case .quarantined(.unreadable), .quarantined(.missingIdentity):
                .init(status: .badRequest, body: #"{"error":"user_id is required"}"#)
            case .quarantined(.unknownKey), .quarantined(.unknownUser):
                .init(status: .notFound, body: #"{"error":"User not found"}"#)
            case .quarantined(let reason):
                .init(
                    status: .accepted,
                    body: #"{"success":true,"quarantined":true,"reason":"\#(reason.rawValue)"}"#)
            }
    }

    private init(events verdicts: [Verdict], missing: [ClosedRange<Int64>]) {
        let counts = VerdictCounts(verdicts)
        let results = verdicts.enumerated().map { index, verdict in
            let outcome =
                switch verdict {
                case .stored(let id), .duplicate(let id), .conflict(let id): #""log_id":\#(id)"#
                case .quarantined(let reason): #""reason":"\#(reason.rawValue)""#
                }
            return #"{"index":\#(index),"status":"\#(verdict.name)",\#(outcome)}"#
        }
        let ranges = missing.map { "[\($0.lowerBound),\($0.upperBound)]" }.joined(separator: ",")
        self.init(
            status: .ok,
            body: """
                {"success":true,"stored":\(counts.stored),"duplicates":\(counts.duplicates),\
                "conflicts":\(counts.conflicts),"quarantined":\(counts.quarantined),\
                \(missing.isEmpty ? "" : "\"missing\":[\(ranges)],")\
                "results":[\(results.joined(separator: ","))]}
                """)
    }
}

/// The verdicts of a body, counted for its answer, its log line and the metrics.
struct VerdictCounts: Hashable {
    private(set) var stored = 0
    private(set) var duplicates = 0
    private(set) var conflicts = 0
    private(set) var quarantined = 0

    init(_ verdicts: [Verdict]) {
        for verdict in verdicts {
            switch verdict {
            case .stored: stored += 1
            case .duplicate: duplicates += 1
            case .conflict: conflicts += 1
            case .quarantined: quarantined += 1
            }
        }
    }

    /// The name and number of each verdict, in the order of the names.
    var all: KeyValuePairs<String, Int> {
        ["conflicts": conflicts, "duplicates": duplicates, "quarantined": quarantined, "stored": stored]
    }

    private static let counters = VerdictCounts([]).all.map { name, _ in
        Counter(label: "webhook_events_total", dimensions: [("verdict", name)])
    }

    /// Adds to `webhook_events_total{verdict}` and `webhook_quarantined_total{reason}`.
    func record(_ verdicts: [Verdict]) {
        for (counter, (_, count)) in zip(Self.counters, all) where count > 0 { counter.increment(by: count) }
        for case .quarantined(let reason) in verdicts {
            Counter(label: "webhook_quarantined_total", dimensions: [("reason", reason.rawValue)]).increment()
        }
    }
}

extension Verdict {
    /// The verdict's word in `results` of the answer.
    var name: String {
        switch self {
        case .stored: "stored"
        case .duplicate: "duplicate"
        case .conflict: "conflict"
        case .quarantined: "quarantined"
        }
    }
}
