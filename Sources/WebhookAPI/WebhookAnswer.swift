import Domain
import HTTPTypes
import LiteLLM

/// What the sender of a body is told, after COMMIT (`design.md` §4, Answers).
struct WebhookAnswer: Hashable {
    let status: HTTPResponse.Status
    /// JSON; made of numbers and our own words only, so there is nothing to escape.
    let body: String

    /// The answer to a body whose events got `verdicts`, one each, and of whose spool these numbers are `missing`.
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

    /// Laravel's answers for one documented event (`laravel.md` §3), and 202 for what Laravel did not know: kept, not stored.
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
