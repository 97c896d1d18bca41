internal import Domain

/// A kind of event of the load: what it says, and what must become of it.
struct LoadEventKind: Sendable {
    enum Outcome: Sendable {
        case countsRequestAndTokens
        case countsRequest
        case countsNothing
        case quarantined(QuarantineReason)
    }

    /// Of how many events in 100 it is.
    let share: Int
    let outcome: Outcome
    var status = "success"
    var errorCode = ""
    var isCacheHit = false
    var hasTokens = true
    /// The literal.
    var cost = "0.0022500000000000003"
    /// Whole days before now.
    var daysAgo: Int64 = 0
    var hasUnknownKey = false

    static let all = [
        LoadEventKind(share: 56, outcome: .countsRequestAndTokens),
        LoadEventKind(share: 8, outcome: .countsRequestAndTokens, cost: "0"),
        LoadEventKind(share: 8, outcome: .countsRequest, isCacheHit: true, cost: "0"),
        .failure(share: 6, errorCode: "500"),
        .failure(share: 4, errorCode: "429"),
        LoadEventKind(share: 4, outcome: .countsRequestAndTokens, status: "failure", errorCode: "500"),
        LoadEventKind(share: 5, outcome: .countsRequestAndTokens, daysAgo: 1),
        LoadEventKind(share: 3, outcome: .countsRequestAndTokens, daysAgo: 40),
        LoadEventKind(share: 2, outcome: .quarantined(.unknownKey), hasUnknownKey: true),
        LoadEventKind(share: 2, outcome: .quarantined(.implausibleCost), cost: "1e400"),
        LoadEventKind(share: 1, outcome: .quarantined(.implausibleCost), cost: "-0.25"),
        LoadEventKind(share: 1, outcome: .quarantined(.implausibleTime), daysAgo: 15_000),
    ]

    /// A call that the provider did not serve.
    static func failure(share: Int, errorCode: String) -> LoadEventKind {
        LoadEventKind(
            share: share, outcome: .countsNothing, status: "failure", errorCode: errorCode, hasTokens: false, cost: "0")
    }

    /// One by its share.
    static func random(using generator: inout SplitMix64) -> LoadEventKind {
        var ticket = Int.random(in: 0..<all.reduce(0) { $0 + $1.share }, using: &generator)
        return all.first { kind in
            ticket -= kind.share
            return ticket < 0
        } ?? all[0]
    }

    func fate(userID: Int64, tokens: Int64) -> LoadEvent.Fate {
        switch outcome {
        case .countsRequestAndTokens: .stored(userID: userID, tokens: tokens, requests: 1)
        case .countsRequest: .stored(userID: userID, tokens: 0, requests: 1)
        case .countsNothing: .stored(userID: userID, tokens: 0, requests: 0)
        case .quarantined(let reason): .quarantined(reason)
        }
    }
}
