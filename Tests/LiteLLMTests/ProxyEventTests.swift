import Domain
import LiteLLM
import Testing

/// The rules for single fields of LiteLLM's events.
@Suite(.timeLimit(.minutes(30))) struct ProxyEventTests {
    private func event(_ members: String, errorText: ErrorText = .line) throws -> UsageEvent {
        var arrival = captured
        arrival.errorText = errorText
        return try EventParser.parse(proxyEvent(members), arrival: arrival).onlyEvent()
    }

    private func reason(_ members: String) throws -> QuarantineReason? {
        try EventParser.parse(proxyEvent(members)).onlyReason()
    }

    @Test(arguments: [
        #"{"startTime": 1795420742.5}"#, #"{"litellm_call_id": null}"#, #"{"call_type": "x"}"#,
        #"{"metadata": {"user_api_key_hash": null}}"#,
    ])
    func anEventIsRecognizedByMembersThatOnlyLiteLLMWrites(body: String) throws {
        let parsed = EventParser.parse(body)
        #expect(parsed.form == .events)
        #expect(try parsed.onlyEvent().shape == .litellm)
        #expect(try parsed.onlyReason() == .missingIdentity)
    }

    @Test(arguments: [
        #""startTime": null"#, #""startTime": NaN"#, #""startTime": Infinity"#, #""startTime": "soon""#,
        #""startTime": []"#, #""startTime": 0"#, #""startTime": -5"#, #""startTime": 1e400"#, #""startTime": 1e18"#,
        #""startTime": 19880899200"#, #""startTime": 1795508600.1"#, #""startTime": 1760862199.9"#,
    ])
    func anImplausibleStartIsQuarantinedWithItsFacts(member: String) throws {
        #expect(try reason(member) == .implausibleTime)
        #expect(try event(member).inputTokens == 10)
    }

    @Test func aStartUpToADayAheadIsTheArrival() throws {
        let ahead = try event(#""startTime": 1795508600"#)
        #expect(ahead.occurredAt == captured.at && ahead.flags == [.timeClamped])
        #expect(ahead.key.high >> 16 == 1_795_508_600_000)
        #expect(try event(#""startTime": 1795422200.0"#).flags == [])
        #expect(try event(#""startTime": 1760862200"#).occurredAt.microseconds == 1_760_862_200_000_000)
    }

    @Test(
        arguments: [
            ("1795420742.5", "1795420743.0004999", 500), ("1795420742.5", "1795420743.0005", 501),
            ("1795420742.5", "1795420742.4", 0), ("1795420742.5", "1e300", nil),
            ("1795420742.5", "1e12", 2_147_483_647),
            ("\"1795420742.5\"", "\"1795420743.25\"", 750), ("1795420742.5", "null", nil), ("1795420742.5", "NaN", nil),
        ] as [(String, String, Int64?)])
    func theDurationIsRoundedHalfUpFromTheLiterals(start: String, end: String, expected: Int64?) throws {
        #expect(try event(#""startTime": \#(start), "endTime": \#(end)"#).durationMilliseconds == expected)
    }

    @Test func microsecondsAreTheLiteralsDigits() throws {
        #expect(try event(#""startTime": 1795420742.9999999"#).occurredAt.microseconds == 1_795_420_742_999_999)
        #expect(try event(#""startTime": 1.795420742123456e9"#).occurredAt.microseconds == 1_795_420_742_123_456)
    }

    @Test(
        arguments: [
            ("10.7", 10, false), ("\"100\"", 100, false), ("null", 0, false), ("-5", 0, true), ("-0.0", 0, false),
            ("true", 0, true), ("{}", 0, true), ("\"abc\"", 0, true), ("NaN", 0, true),
            ("2147483647", 2_147_483_647, false),
            ("2147483648", 2_147_483_648, true), ("1e30", .max, true), ("1e300", .max, true), ("1e2", 100, false),
            ("\"99999999999999999999\"", .max, true),
        ] as [(String, Int64, Bool)])
    func tokensAreClampedAndFlagged(value: String, expected: Int64, isClamped: Bool) throws {
        let event = try event(#""prompt_tokens": \#(value), "completion_tokens": 1"#)
        #expect(event.inputTokens == expected && event.outputTokens == 1)
        #expect(event.flags == (isClamped ? [.tokensClamped] : []))
    }

    @Test(
        arguments: [
            ("null", nil), ("true", nil), ("[1]", nil), ("{}", nil), ("\"abc\"", nil), ("\"\"", nil),
            ("\"1e-3\"", "1e-3"),
            ("\" 0.5 \"", "0.5"), ("0.0022500000000000003", "0.0022500000000000003"), ("0.0", "0.0"), ("-0.0", "-0.0"),
        ] as [(String, String?)])
    func aCostIsItsLiteralOrUnpriced(value: String, literal: String?) throws {
        #expect(try reason(#""response_cost": \#(value)"#) == nil)
        #expect(try event(#""response_cost": \#(value)"#).cost?.literal.text == literal)
    }

    /// Images, speech and moderation have no tokens.
    @Test(
        arguments: [
            (#""response_cost": 0"#, true), (#""response_cost": "0""#, true), (#""response_cost": 0.0"#, true),
            (#""response_cost": 0e0"#, true), (#""response_cost": -0"#, true), (#""response_cost": null"#, true),
            (#""response_cost": {}"#, true), (#""response_cost": 0.04"#, false), (#""response_cost": 1e-13"#, false),
            (#""response_cost": 0, "cache_hit": true"#, false), (#""response_cost": null, "cache_hit": true"#, false),
            (#""response_cost": 0, "cache_hit": null"#, true), (#""response_cost": 0, "cache_hit": "no""#, true),
            (#""response_cost": 0, "status": "failure""#, false),
            (#""response_cost": 0, "status": "failure", "completion_tokens": 1"#, true),
            (#""response_cost": 0, "status": "failure", "error_information": {"error_code": "429"}"#, false),
        ] as [(String, Bool)])
    func aServedCallWithoutAPriceIsUnpriced(members: String, isUnpriced: Bool) throws {
        let event = try event(#""prompt_tokens": 0, "completion_tokens": 0, \#(members)"#)
        #expect(event.isUnpricedUnlessFree == isUnpriced)
    }

    @Test(arguments: [
        "-1", "-1e-12", "NaN", "Infinity", "-Infinity", "\"INF\"", "\"nan\"", "\"-infinity\"", "1e300", "100000000",
    ])
    func anImplausibleCostIsQuarantined(value: String) throws {
        #expect(try reason(#""response_cost": \#(value)"#) == .implausibleCost)
        #expect(try event(#""response_cost": \#(value)"#).cost == nil)
    }

    @Test func aCostBeyondLaravelsColumnIsFlagged() throws {
        #expect(try event(#""response_cost": 10000"#).flags == [.costSaturated])
    }

    @Test(arguments: [
        (#""model_group": """#, "openai/gpt-4"), (#""model_group": null, "model": """#, "unknown"),
        (#""model_group": 12.5"#, "12.5"), (#""model_group": ["x"], "model": false"#, "unknown"),
        (#""model_group": "a\u0000b\ud83dc""#, "ab\u{FFFD}c"), (#""model_group": "cf_abcdef""#, "***"),
        (#""model_group": "x-cf_key1""#, "x-***"), (#""model_group": "\ud83d\ude00\n""#, "😀"),
    ])
    func theModelIsTheNameTheClientAskedFor(members: String, expected: String) throws {
        #expect(try event(members).modelGroup == expected)
    }

    @Test func textsAreBoundedByCharacters() throws {
        let long = String(repeating: "\\ud83d\\ude00", count: 300)
        let tags = (0..<40).map { "\"\($0)\"" }.joined(separator: ",")
        let event = try event(#""model_group": "\#(long)", "end_user": "\#(long)", "request_tags": [\#(tags)]"#)
        #expect(event.modelGroup.unicodeScalars.count == 255)
        #expect(event.endUser?.unicodeScalars.count == 255)
        #expect(event.tags.count == 32)
        let message = String(repeating: "ğ", count: 200_000)
        let failed = try self.event(#""status": "failure", "error_str": "\#(message)""#, errorText: .full)
        #expect(failed.errorMessage?.utf8.count == 8192)
        #expect(failed.errorMessage?.contains("\u{FFFD}") == false)
    }

    @Test(
        arguments: [
            (#""error_information": {"error_message": "first", "traceback": "no"}, "error_str": "second""#, "first"),
            (#""error_information": {"error_message": ""}, "error_str": "second""#, "second"),
            (#""error": {"message": "third"}"#, "third"), (#""error": "fourth""#, "fourth"), (#""error": {}"#, nil),
            (#""error_str": "no cf_key1, sk-abcdef or Bearer x""#, "no ***, *** or Bearer ***"),
        ] as [(String, String?)])
    func aFailureSaysWhyScrubbed(members: String, expected: String?) throws {
        #expect(try event(#""status": "failure", \#(members)"#).errorMessage == expected)
        #expect(try event(members).errorMessage == nil)
    }

    @Test(
        arguments: [
            (
                "litellm.BadRequestError: OpenAIException - Invalid value: 'my prompt'",
                "litellm.BadRequestError: OpenAIException - Invalid value: …"
            ),
            (#"OpenAIException - {\"error\": {\"message\": \"my prompt\"}}"#, "OpenAIException - …"),
            (#"It can't be. [\"my prompt\"]"#, "It can't be. …"), ("“my prompt” is no JSON", "BadRequestError 400"),
            ("400: {'error': 'my prompt'}", "BadRequestError 400"), ("too long", "too long"),
            (#"first line\nmy prompt"#, "first line …"), (#"first\u2028my prompt"#, "first …"),
            ("it's the dogs' my prompt", "it's the dogs …"), ("", "BadRequestError 400"),
            (String(repeating: "word ", count: 50), String(repeating: "word ", count: 40).dropLast() + " …"),
        ] as [(String, String)])
    func aShortErrorTextEndsWhereAQuotationMayBegin(text: String, expected: String) throws {
        let information = #""error_code": "400", "error_class": "BadRequestError", "error_message": "\#(text)""#
        let members = #""status": "failure", "error_information": {\#(information)}, "error_str": "\#(text)""#
        #expect(try event(members).errorMessage == (text.isEmpty ? nil : expected))
        #expect(try event(members, errorText: .code).errorMessage == "BadRequestError 400")
    }

    @Test(arguments: ["my prompt", "a\\nb", "sk-abcdefghijkl", String(repeating: "x", count: 101)])
    func aCodeAndAClassAreWords(text: String) throws {
        let information = #""error_code": "\#(text)", "error_class": "\#(text)""#
        let event = try event(
            #""status": "failure", "error_information": {\#(information)}"#, errorText: .code)
        #expect(event.errorCode == nil && event.errorMessage == nil)
    }

    @Test(arguments: [
        ("true", [UsageEvent.Flag.usageEstimated]), ("false", []), ("\"true\"", []), ("1", []), ("null", []),
    ])
    func anEstimateIsFlagged(value: String, flags: [UsageEvent.Flag]) throws {
        #expect(try event(#""codexflow_usage_estimated": \#(value)"#).flags == flags)
        #expect(try event(#""metadata": {"user_api_key_user_id": "1", "codexflow_usage_estimated": true}"#).flags == [])
    }

    @Test func itsOwnKeyIsNowhereInItsTexts() throws {
        let event = try event(
            """
            "metadata": {"user_api_key_hash": "hunter22"}, "end_user": "u-hunter22", "request_tags": ["a hunter22"], \
            "status": "failure", "error_str": "hunter22!", "model": "m/hunter22"
            """)
        #expect(
            [event.endUser, event.tags.first, event.errorMessage, event.deployment] == [
                "u-***", "a ***", "***!", "m/***",
            ])
    }

    @Test(arguments: [
        (#"{"user_api_key_user_id": "7"}"#, IdentityClaim(userID: 7)),
        (#"{"user_api_key_user_id": 7}"#, IdentityClaim(userID: 7)),
        (#"{"user_api_key_hash": " ", "user_api_key_user_id": "7"}"#, IdentityClaim(userID: 7)),
        (#"{"user_api_key_auth_metadata": {"laravel_user_id": "8"}}"#, IdentityClaim(laravelUserID: 8)),
        (
            #"{"user_api_key_hash": "litellm_proxy_master_key"}"#,
            IdentityClaim(
                keyHashes: [KeyHash(of: "litellm_proxy_master_key")], presentedKey: "litellm_proxy_master_key")
        ),
    ])
    func identityIsWhatTheProxyKnows(metadata: String, expected: IdentityClaim) throws {
        #expect(try event(#""metadata": \#(metadata)"#).identity == expected)
    }

    @Test(arguments: [
        #"{"user_api_key_user_id": "0"}"#, #"{"user_api_key_user_id": "-1"}"#, #"{"user_api_key_user_id": 1.5}"#,
        #"{"user_api_key_user_id": "9223372036854775808"}"#, #"{"laravel_user_id": 5, "user_id": "x"}"#, "null",
        #"{"user_api_key_auth_metadata": {"laravel_user_id": true}}"#,
    ])
    func anEventThatNamesNoUserIsQuarantined(metadata: String) throws {
        #expect(
            try reason(#""metadata": \#(metadata), "user": "42", "end_user": "42", "user_id": 42"#) == .missingIdentity)
    }

    @Test(arguments: [
        (#"{"user_api_key_hash": "x", "user_api_key_auth_metadata": {}}"#, true),
        (#"{"user_api_key_hash": "x", "user_api_key_auth_metadata": null, "user_api_key_user_id": ""}"#, true),
        (#"{}"#, true), (#"{"user_api_key_hash": "x", "user_api_key_user_id": "sk-user"}"#, false),
        (#"{"user_api_key_hash": "x", "user_api_key_auth_metadata": {"plan": "pro"}}"#, false),
    ])
    func codes401And403WithoutIdentityAreDenials(metadata: String, isDenial: Bool) throws {
        for code in [#""401""#, #""403""#, "401"] {
            let members =
                #""metadata": \#(metadata), "status": "failure", "error_information": {"error_code": \#(code)}"#
            #expect(try (reason(members) == .denied) == isDenial)
        }
        #expect(
            try reason(#""metadata": \#(metadata), "status": "failure", "error_information": {"error_code": "400"}"#)
                != .denied)
    }

    @Test func aDeniedHashIsHashedAgain() throws {
        let hex = KeyHash(of: "somebody's").hex
        let denial = #""status": "failure", "error_information": {"error_code": "401"}"#
        let event = try event(#""metadata": {"user_api_key_hash": "\#(hex)"}, \#(denial)"#)
        #expect(event.identity == IdentityClaim(keyHashes: [KeyHash(of: hex)]))
    }

    @Test func theKeyFollowsFromCallIdStatusAndStartAlone() throws {
        let key = try event("").key
        #expect(try event(#""prompt_tokens": 11, "model": "other""#).key == key)
        let others = [
            #""id": "j""#, #""litellm_call_id": "d""#, #""status": "failure""#, #""startTime": 1795420742.50"#,
            #""litellm_call_id": "ci", "id": """#, #""litellm_call_id": null"#, #""id": null"#,
        ]
        #expect(Set(try others.map { try event($0).key } + [key]).count == others.count + 1)
    }
}
