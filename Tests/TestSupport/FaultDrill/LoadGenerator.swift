package import Domain

/// Makes the bodies of one client: arrays of LiteLLM's events, and single documented events.
struct LoadGenerator {
    private let client: Int
    private let users: [LoadUser]
    private var count = 0
    private var random: SplitMix64

    /// The number of the client makes the names of its events unique.
    init(client: Int, users: [LoadUser], seed: UInt64) {
        self.client = client
        self.users = users
        random = SplitMix64(seed: seed &+ UInt64(client))
    }

    /// The next body, with new events.
    mutating func body(now: Timestamp) -> LoadBody {
        if random.chance(20) { return documented() }
        var events: [LoadEvent] = []
        for _ in 0..<Int.random(in: 1...30, using: &random) {
            events += random.chance(5) ? retriedCall(now: now) : [event(.random(using: &random), now: now)]
        }
        if random.chance(20), let twin = events.randomElement(using: &random) {
            events.append(twin)
        }
        return LoadBody(form: .array, events: events)
    }

    /// Draws a whole number.
    mutating func number(in range: ClosedRange<Int>) -> Int {
        Int.random(in: range, using: &random)
    }

    private mutating func nextName() -> String {
        count += 1
        return "drill-\(client)-\(count)"
    }

    private mutating func user() -> LoadUser {
        users[Int.random(in: users.indices, using: &random)]
    }

    /// The failure and the success of one call, which have the same ids.
    private mutating func retriedCall(now: Timestamp) -> [LoadEvent] {
        let call = nextName()
        return [
            event(.failure(share: 0, errorCode: "503"), of: call, now: now),
            event(LoadEventKind(share: 0, outcome: .countsRequestAndTokens), of: call, now: now),
        ]
    }

    private mutating func event(_ kind: LoadEventKind, of call: String? = nil, now: Timestamp) -> LoadEvent {
        let name = nextName()
        let call = call ?? name
        let user = user()
        let input = kind.hasTokens ? Int64.random(in: 1...5000, using: &random) : 0
        let output = kind.hasTokens ? Int64.random(in: 1...800, using: &random) : 0
        let start = now.microseconds - kind.daysAgo * 86_400_000_000 - Int64.random(in: 0...9_000_000, using: &random)
        let end = start + Int64.random(in: 50_000...4_000_000, using: &random)
        let unknown = #""user_api_key_hash":"\#(KeyHash(of: name).hex)","user_api_key_user_id":null"#
        let identity = kind.hasUnknownKey ? unknown : user.identity(using: &random)
        let json = """
            {"id":"chatcmpl-\(call)","litellm_call_id":"call-\(call)","trace_id":"trace-\(call)",\
            "call_type":"acompletion","stream":null,"status":"\(kind.status)","custom_llm_provider":"openai",\
            "startTime":\(Self.seconds(start)),\
            "endTime":\(Self.seconds(end)),"completionStartTime":\(Self.seconds(end)),"model":"openai/gpt-4o",\
            "model_group":"\(name)","cache_hit":\(kind.isCacheHit),"response_cost":\(kind.cost),\
            "prompt_tokens":\(input),"completion_tokens":\(output),"total_tokens":\(input + output),\
            "end_user":"","request_tags":["drill"],"metadata":{\(identity)},\
            "messages":[{"role":"user","content":"How is the \\u2615?"}],"response":{"choices":[]},"error_str":null,\
            "error_information":{"error_code":"\(kind.errorCode)","error_class":"","error_message":"","traceback":""}}
            """
        return LoadEvent(name: name, json: json, fate: kind.fate(userID: user.id, tokens: input + output))
    }

    private mutating func documented() -> LoadBody {
        let name = nextName()
        let user = user()
        let input = Int64.random(in: 1...5000, using: &random)
        let output = Int64.random(in: 1...800, using: &random)
        let isAbsurd = random.chance(5)
        let json = """
            {"user_id":"\(user.key)","model":"\(name)",\
            "usage":{"prompt_tokens":\(input),"completion_tokens":\(output)},\
            "cost":\(isAbsurd ? "1e30" : "0.0015"),"response_time":1.005}
            """
        let event = LoadEvent(
            name: name, json: json,
            fate: isAbsurd
                ? .quarantined(.implausibleCost) : .stored(userID: user.id, tokens: input + output, requests: 1))
        return LoadBody(form: .documented(idempotencyKey: name), events: [event])
    }

    /// Seconds since 1970 with six decimals, as Python prints them.
    private static func seconds(_ microseconds: Int64) -> String {
        let (whole, fraction) = microseconds.quotientAndRemainder(dividingBy: 1_000_000)
        let digits = String(fraction)
        return "\(whole).\(String(repeating: "0", count: 6 - digits.count))\(digits)"
    }
}

/// A kind of event of the load, and what must become of it.
struct LoadEventKind: Sendable {
    enum Outcome: Sendable {
        case countsRequestAndTokens
        case countsRequest
        case countsNothing
        case quarantined(QuarantineReason)
    }

    /// How many of 100 events are of this kind.
    let share: Int
    let outcome: Outcome
    var status = "success"
    var errorCode = ""
    var isCacheHit = false
    var hasTokens = true
    /// The JSON literal of the cost.
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

    /// A call that failed at the provider.
    static func failure(share: Int, errorCode: String) -> LoadEventKind {
        LoadEventKind(
            share: share, outcome: .countsNothing, status: "failure", errorCode: errorCode, hasTokens: false, cost: "0")
    }

    /// A random kind, by the shares.
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

/// One event of the load, and what must become of it.
package struct LoadEvent: Sendable {
    /// What must become of an acknowledged event.
    package enum Fate: Sendable, Hashable {
        /// One log of this user, which adds this to the counters.
        case stored(userID: Int64, tokens: Int64, requests: Int64)
        /// One entry in quarantine.
        case quarantined(QuarantineReason)
    }

    /// The model of the event. It is unique, so that the event is found under any key.
    let name: String
    let json: String
    let fate: Fate
}

/// A body of the load. Every attempt sends the same bytes.
struct LoadBody: Sendable {
    /// The form of the body, which decides the form of the answer.
    enum Form: Sendable, Hashable {
        case array
        /// One documented event with the header `Idempotency-Key`.
        case documented(idempotencyKey: String)
    }

    let form: Form
    /// The events in the order of the body. An event may occur twice.
    let events: [LoadEvent]

    var text: String {
        switch form {
        case .array: "[\(events.map(\.json).joined(separator: ","))]"
        case .documented: events.map(\.json).joined()
        }
    }
}

/// A user of the load.
struct LoadUser: Sendable {
    let id: Int64
    let key: String

    /// The members of an event's `metadata` that name the user, in one of LiteLLM's forms.
    func identity(using generator: inout SplitMix64) -> String {
        let forms = [
            #""user_api_key_hash":"\#(KeyHash(of: key).hex)","user_api_key_user_id":null"#,
            #""user_api_key_hash":"\#(key)","user_api_key_user_id":null"#,
            #""user_api_key_hash":null,"user_api_key_user_id":"\#(id)""#,
            """
            "user_api_key_hash":"\(KeyHash(of: key).hex)","user_api_key_user_id":"\(id)",\
            "user_api_key_auth_metadata":{"laravel_user_id":\(id)}
            """,
        ]
        return forms[Int.random(in: forms.indices, using: &generator)]
    }
}
