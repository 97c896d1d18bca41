import Domain
import LiteLLM
import Testing

/// The rules for the two documented shapes (`docs/laravel.md`).
@Suite(.timeLimit(.minutes(30))) struct DocumentedEventTests {
    private func event(_ members: String) throws -> UsageEvent {
        try EventParser.parse(documentedEvent(members)).onlyEvent()
    }

    @Test func flatAndNestedSayTheSame() throws {
        let nested = """
            {"user_id": "cf_key1", "response": {"model": "gpt-4", \
            "usage": {"prompt_tokens": 100, "completion_tokens": 50}, "cost": 0.0015, \
            "response_time": 1.25}, "messages": [{"role": "user", "content": "hi"}]}
            """
        for body in [documentedEvent(), nested] {
            let event = try EventParser.parse(body).onlyEvent()
            let expected = UsageEvent(
                key: event.key, isIdempotent: false, shape: .documented,
                identity: IdentityClaim(keyHashes: [KeyHash(of: "cf_key1")], presentedKey: "cf_key1"), status: .success,
                modelGroup: "gpt-4", inputTokens: 100, outputTokens: 50,
                cost: DecimalLiteral("0.0015").flatMap(Cost.init),
                occurredAt: captured.at, durationMilliseconds: 1250)
            #expect(event == expected)
        }
    }

    @Test func theFlatUsageCountsAsSoonAsItIsThere() throws {
        let response = #""response": {"usage": {"prompt_tokens": 7, "completion_tokens": 8}, "model": "r"}"#
        #expect(try event(#""usage": null, \#(response)"#).inputTokens == 7)
        for usage in ["[1, 2]", "5", "{}", "\"x\""] {
            let event = try event(#""usage": \#(usage), \#(response)"#)
            #expect(event.inputTokens == 0 && event.outputTokens == 0 && event.modelGroup == "gpt-4")
        }
    }

    @Test func anthropicsNamesAndDetailsAreRead() throws {
        let usage = """
            {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 2, \
            "completion_tokens_details": {"reasoning_tokens": 1}}
            """
        for members in [#""usage": \#(usage)"#, #""usage": null, "response": {"usage": \#(usage)}"#] {
            let event = try event(members)
            #expect(
                [event.inputTokens, event.outputTokens, event.cachedTokens, event.reasoningTokens] == [3, 4, 2, 1])
        }
    }

    @Test(
        arguments: [
            (#""error": {"message": "boom", "code": 500}"#, EventStatus.error, "boom"),
            (#""error": "boom""#, .error, "boom"),
            (#""error": null"#, .success, nil), (#""error": """#, .success, nil), (#""error": {}"#, .error, nil),
            (#""error": false"#, .success, nil), (#""error": {"message": ["x"]}"#, .error, nil),
            (#""response": {"error": {"message": "inner"}}"#, .error, "inner"),
            (#""response": {"error": "in"}"#, .error, "in"),
            (#""status": "error""#, .error, nil), (#""status": "failed""#, .error, nil),
            (#""status": "rate_limited""#, .rateLimited, nil), (#""status": 5"#, .success, nil),
            (#""status": "RATE_LIMITED""#, .rateLimited, nil), (#""status": "Failed""#, .error, nil),
            (#""status": "rate_limited", "error": "slow""#, .rateLimited, "slow"),
            (#""error": "key cf_key1""#, .error, "key ***"),
        ] as [(String, EventStatus, String?)])
    func anErrorIsAnErrorWhateverTheStatusSays(
        members: String, status: EventStatus, message: String?
    ) throws {
        let event = try event(members)
        #expect(event.status == status)
        #expect(event.errorMessage == message)
    }

    @Test(arguments: [
        #""status": "rate_limited", "error": "slow down""#,
        #""status": "rate_limited", "error": {"message": "slow down", "code": 500}"#,
        #""status": "rate_limited", "response": {"error": "slow down"}"#,
        #""error": {"code": 429}"#, #""error": {"code": "429", "message": "slow down"}"#, #""error": {"status": 429}"#,
        #""error": {"status_code": "429"}"#, #""error": {"error_code": 429.0}"#, #""error": 429"#, #""error": "429""#,
        #""error": "429: {'error': 'Monthly limit reached'}""#, #""error": "Error code: 429 - {}""#,
        #""error": {"message": "Error code: 429 - {}", "type": "x"}"#,
        #""response": {"error": {"code": 429}}"#, #""response": {"error": {"status": " 429 "}}"#,
        #""response": {"error": "x", "status_code": 429}"#, #""response": {"error": {"error_code": "429"}}"#,
        #""status": "error", "error_code": 429"#, #""status": "error", "status_code": "429""#,
        #""status": "failed", "error": "x", "code": 429"#, #""status": 429"#,
        #""status": "failure", "error": "x", "error_information": {"error_code": "429"}"#,
        #""error": {"code": "rate_limit_exceeded", "status": 429}"#,
    ])
    func aRefusalForTheRateOfCallsIsNoneOfTheErrorsAndCountsNothing(members: String) throws {
        let event = try event(members)
        #expect(event.status == .rateLimited)
        let quota = QuotaContribution(of: event)
        #expect(quota.requests == 0 && quota.tokens == 0)
        #expect(!event.isUnpricedUnlessFree)
        let isStated = members.contains(#""status": "rate_limited""#)
        #expect(isStated ? ["429", "500", nil].contains(event.errorCode) : event.errorCode == "429")
    }

    @Test(
        arguments: [
            (#""error": {"code": 4290}"#, "4290"), (#""error": {"code": 42.9}"#, "42.9"),
            (#""error": {"code": -429}"#, "-429"), (#""error": {"code": [429], "type": 429}"#, nil),
            (#""error": "429 tokens are too many""#, nil), (#""error": "Error code: 4290""#, nil),
            (#""error": {"code": "insufficient_quota"}"#, "insufficient_quota"),
            (#""error": "x", "messages": [{"code": 429}], "usage": {"code": 429}"#, nil),
            (#""error": {"code": "cf_key1"}"#, nil), (#""status": "error", "status_code": 500"#, "500"),
        ] as [(String, String?)])
    func anotherCodeIsAnErrors(members: String, code: String?) throws {
        let event = try event(members)
        #expect(event.status == .error)
        #expect(event.errorCode == code)
    }

    @Test(
        arguments: [
            ("", "0.0015", false), (#""cost": 0"#, "0", true), (#""cost": "0""#, "0", true),
            (#""cost": 0e0"#, "0e0", true), (#""cost": -0.0"#, "-0.0", true), (#""cost": null"#, nil, true),
            (#""cost": "free""#, nil, true), (#""cost": 0.0, "usage": null"#, "0.0", true),
            (#""cost": null, "usage": {"images": 1}"#, nil, true), (#""cost": 1e-30, "usage": null"#, "1e-30", false),
            (#""cost": 0, "status": "error", "usage": null"#, "0", false),
            (#""cost": null, "status": "error""#, nil, true), (#""cost": 0, "status": "rate_limited""#, "0", false),
        ] as [(String, String?, Bool)])
    func aServedCallWithoutAPriceIsUnpriced(
        members: String, literal: String?, isUnpriced: Bool
    ) throws {
        let event = try event(members)
        #expect(event.cost?.literal.text == literal)
        #expect(event.isUnpricedUnlessFree == isUnpriced)
    }

    @Test(
        arguments: [
            ("1.005", 1005), ("0.0009", 1), ("0.0005", 1), ("0.00049", 0), ("2.3", 2300), ("\"1.5\"", 1500), ("-1", 0),
            ("null", nil), ("\"abc\"", nil), ("[1]", nil), ("1e300", 2_147_483_647), ("2147483.648", 2_147_483_647),
        ] as [(String, Int64?)])
    func secondsBecomeMilliseconds(value: String, expected: Int64?) throws {
        #expect(try event(#""response_time": \#(value)"#).durationMilliseconds == expected)
    }

    @Test(arguments: ["null", "\"\"", "\" \"", "0", "\"0\"", "false", "0.0", "[]", "{}", "-0"])
    func aValueThatPHPCountsAsFalseNamesNoUser(value: String) throws {
        let parsed = EventParser.parse(documentedEvent(#""user_id": \#(value)"#))
        #expect(parsed.form == .documented)
        #expect(try parsed.onlyReason() == .missingIdentity)
        let elsewhere = documentedEvent(#""user_id": \#(value), "metadata": {"user_id": "cf_m"}"#)
        #expect(try EventParser.parse(elsewhere).onlyEvent().identity.presentedKey?.text == "cf_m")
    }

    @Test(
        arguments: [
            ("42", "42", 42), ("\"42\"", "42", 42), ("\" 42 \"", "42", 42), ("\"007\"", "007", 7), ("-1", "-1", nil),
            ("1.5", "1.5", nil), ("\"1.9\"", "1.9", nil), ("\"9223372036854775807\"", "9223372036854775807", .max),
            ("9223372036854775808", "9223372036854775808", nil), ("\" cf_x \"", "cf_x", nil), ("42.0", "42.0", nil),
        ] as [(String, String, Int64?)])
    func aNumberIsAKeyOrAnIdAllElseAKey(value: String, key: String, id: Int64?) throws {
        let expected = IdentityClaim(
            keyHashes: [KeyHash(of: key)], isKeyOptional: id != nil, userID: id, presentedKey: key)
        #expect(try event(#""user_id": \#(value)"#).identity == expected)
    }

    @Test(arguments: ["true", #"["cf_key1"]"#, #"{"a": 1}"#])
    func aValueThatIsNoTextNamesNoKnownUser(value: String) throws {
        #expect(try event(#""user_id": \#(value)"#).identity == IdentityClaim(keyHashes: [KeyHash(of: value)]))
    }

    @Test func laravelUserIDIsEnoughAndStandsBesideUserID() throws {
        let alone = try event(#""user_id": null, "metadata": {"laravel_user_id": "9"}"#)
        #expect(alone.identity == IdentityClaim(laravelUserID: 9))
        let both = try event(#""metadata": {"laravel_user_id": 9}"#).identity
        #expect(both.laravelUserID == 9 && both.presentedKey?.text == "cf_key1")
    }

    @Test func anEventHasTheHeadersIdempotencyKeyElseItsOwnElseNone() throws {
        var arrival = captured
        #expect(try !event("").isIdempotent)
        #expect(try event(#""event_id": "e1""#).key == EventKey(idempotencyKey: "e1"))
        #expect(try event(#""event_id": 17"#).key == EventKey(idempotencyKey: "17"))
        #expect(try !event(#""event_id": " ""#).isIdempotent)
        arrival.idempotencyKey = "h1"
        let body = documentedEvent(#""event_id": "e1""#)
        #expect(try EventParser.parse(body, arrival: arrival).onlyEvent().key == EventKey(idempotencyKey: "h1"))
        #expect(try EventParser.parse("[\(body)]", arrival: arrival).onlyEvent().key == EventKey(idempotencyKey: "e1"))
        arrival.idempotencyKey = ""
        #expect(try EventParser.parse(body, arrival: arrival).onlyEvent().key == EventKey(idempotencyKey: "e1"))
    }

    @Test func eventsWithoutAnIdempotencyKeyNeverShareAKeyAndASeedRepeatsThem() {
        var arrival = captured
        let body = "[\((0..<50).map { _ in documentedEvent() }.joined(separator: ","))]"
        #expect(Set(EventParser.parse(body).events.map(\.key)).count == 50)
        arrival.generator = SplitMix(state: 1)
        #expect(EventParser.parse(body, arrival: arrival).results == EventParser.parse(body, arrival: arrival).results)
    }

    @Test func anImplausibleCostKeepsTheRest() throws {
        let parsed = EventParser.parse(documentedEvent(#""cost": -1"#))
        #expect(try parsed.onlyReason() == .implausibleCost)
        #expect(parsed.form == .documented)
        #expect(try parsed.onlyEvent().inputTokens == 100)
    }
}
