internal import Domain

/// Makes the bodies of one client: arrays of LiteLLM's events (`docs/litellm.md`), and single documented events.
struct LoadGenerator {
    private let client: Int
    private let users: [LoadUser]
    private var count = 0
    private var random: SplitMix64

    /// The number of a client makes the names of its events differ from those of others.
    init(client: Int, users: [LoadUser], seed: UInt64) {
        self.client = client
        self.users = users
        random = SplitMix64(seed: seed &+ UInt64(client))
    }

    /// The next body, of events that nobody sent before.
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

    /// The failure and the success of one call, which share its ids (`docs/litellm.md`).
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
        let unknownIdentity = #""user_api_key_hash":"\#(KeyHash(of: name).hex)","user_api_key_user_id":null"#
        let identity = kind.hasUnknownKey ? unknownIdentity : user.identity(using: &random)
        let json = """
            {"id":"chatcmpl-\(call)","litellm_call_id":"call-\(call)","trace_id":"trace-\(call)",\
            "call_type":"acompletion",\
            "stream":null,"status":"\(kind.status)","custom_llm_provider":"openai","startTime":\(Self.seconds(start)),\
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
