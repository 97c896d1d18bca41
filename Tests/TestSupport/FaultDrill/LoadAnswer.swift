internal import Domain
internal import Foundation

/// The answer to one attempt.
struct LoadAnswer: Sendable {
    /// An answer that is not as documented.
    struct Malformed: Error {}

    let status: Int
    let body: Data

    var isAcknowledged: Bool { (200..<300).contains(status) }
    /// A refusal after which the sender gives up (`docs/litellm.md`).
    var isRefused: Bool { (400..<500).contains(status) }

    /// The verdicts of the events of a body of this form, in order. Throws ``Malformed``, and what decoding throws.
    func verdicts(of form: LoadBody.Form) throws -> [Verdict] {
        switch form {
        case .array: try JSONDecoder().decode(ArrayAnswer.self, from: body).verdicts
        case .documented: [try JSONDecoder().decode(DocumentedAnswer.self, from: body).verdict]
        }
    }
}

private struct ArrayAnswer: Decodable {
    struct Result: Decodable {
        var index: Int
        var status: String
        var log_id: Int64?
        var reason: QuarantineReason?
    }

    var results: [Result]

    var verdicts: [Verdict] {
        get throws {
            try results.enumerated().map { index, result in
                switch (result.status, result.log_id, result.reason) {
                case ("stored", let id?, _) where result.index == index: .stored(logID: id)
                case ("duplicate", let id?, _) where result.index == index: .duplicate(logID: id)
                case ("conflict", let id?, _) where result.index == index: .conflict(logID: id)
                case ("quarantined", _, let reason?) where result.index == index: .quarantined(reason)
                default: throw LoadAnswer.Malformed()
                }
            }
        }
    }
}

private struct DocumentedAnswer: Decodable {
    var log_id: Int64?
    var duplicate: Bool?
    var conflict: Bool?
    var reason: QuarantineReason?

    var verdict: Verdict {
        get throws {
            switch (log_id, reason) {
            case (let id?, nil) where duplicate == true: .duplicate(logID: id)
            case (let id?, nil) where conflict == true: .conflict(logID: id)
            case (let id?, nil): .stored(logID: id)
            case (nil, let reason?): .quarantined(reason)
            default: throw LoadAnswer.Malformed()
            }
        }
    }
}
