import Domain
import LiteLLM
import TestSupport
import Testing

/// Exact facts of representative captured events.
@Suite(.timeLimit(.minutes(30))) struct CapturedEventTests {
    private func events(_ name: String) throws -> [UsageEvent] {
        EventParser.parse(try Fixtures.litellm(name), arrival: captured).events
    }

    @Test func aSuccessHasEveryFact() throws {
        let event = try #require(try events("1.109.1/chat_success_upstream").first)
        let key = "cf_a111111111111111111111111111111111111111111111111111111111111111"
        let expected = UsageEvent(
            key: event.key, isIdempotent: true, shape: .litellm,
            identity: IdentityClaim(
                keyHashes: [KeyHash(of: key)], laravelUserID: 42, userID: 42, presentedKey: key),
            status: .success, modelGroup: "gpt-4o", deployment: "openai/gpt-4o", provider: "openai",
            callType: "acompletion",
            inputTokens: 1000, outputTokens: 50, cachedTokens: 600, reasoningTokens: 32,
            cost: DecimalLiteral("0.0022500000000000003").flatMap(Cost.init),
            occurredAt: Timestamp(microseconds: 1_795_420_563_637_132), durationMilliseconds: 26,
            tags: ["User-Agent: Python-urllib", "User-Agent: Python-urllib/3.11"])
        #expect(event == expected)
        #expect(event.key.high >> 16 == 1_795_420_563_637)
    }

    @Test func aCacheHitRepeatsTokensAtNoCost() throws {
        let hits = try events("1.109.1/cache_hits")
        #expect(hits.map(\.isCacheHit) == [false, true])
        #expect(hits.map(\.inputTokens) == [1000, 1000])
        #expect(hits.map { $0.cost?.isZero } == [false, true])
    }

    @Test func streamsHaveATimeToTheFirstToken() throws {
        let stream = try #require(try events("1.109.1/chat_stream_upstream").first)
        #expect(stream.isStream)
        #expect(stream.durationMilliseconds == 496)
        #expect(stream.timeToFirstTokenMilliseconds == 478)
        let cut = try #require(try events("1.109.1/chat_stream_cut").first)
        #expect(cut.status == .error && !cut.isStream && cut.timeToFirstTokenMilliseconds == nil)
        #expect([cut.inputTokens, cut.outputTokens] == [10, 4])
        #expect(cut.errorMessage == "Stream ended before a finish_reason was received")
        let hungUp = try #require(try events("1.109.1/client_disconnect_stream").first)
        #expect(hungUp.status == .success && hungUp.outputTokens == 11 && hungUp.errorMessage == nil)
    }

    @Test(arguments: [
        "1.109.1/err_up429", "1.109.1/auth_limit_proxyexc429", "1.109.1/pre_call_hook_limit", "1.83.14/err_up429",
    ])
    func code429IsARateLimit(name: String) throws {
        let event = try #require(try events(name).first)
        #expect(event.status == .rateLimited)
        #expect(event.errorCode == "429")
        #expect(event.errorMessage != nil)
    }

    @Test func aDenialKeepsNothingOfTheCallers() throws {
        let body = EventParser.parse(try Fixtures.litellm("1.109.1/auth_unknown_key"), arrival: captured)
        let rejection = try #require(body.rejections.first)
        let event = try #require(rejection.event)
        #expect(rejection.reason == .denied && rejection.key == event.key && rejection.excerpt == nil)
        #expect(event.identity == IdentityClaim(keyHashes: [KeyHash(of: "cf_nothex")]))
        #expect(event.errorMessage == nil && event.endUser == nil && event.tags.isEmpty)
        #expect(!String(reflecting: rejection).contains("cf_nothex"))
    }

    @Test func keysHashesAndNumbersIdentifyAsTheProxySays() throws {
        let hashed = try #require(try events("1.109.1/chat_success_hashedkey").first).identity
        let hex = "1e0db5e41e1dda2138af715ac812d32518db5a5a3c4f2bbd2181fb29d3938de2"
        #expect(hashed.keyHashes.map(\.hex) == [hex, KeyHash(of: hex).hex])
        #expect(hashed.laravelUserID == 43 && hashed.userID == 43 && hashed.presentedKey?.text == hex)
        let virtual = try #require(try events("1.109.1/chat_success_skkey").first).identity
        #expect(virtual.keyHashes.count == 2 && virtual.userID == nil && virtual.laravelUserID == nil)
        let user = try #require(try events("1.109.1/chat_success_useronly").first).identity
        #expect(user == IdentityClaim(userID: 44))
    }

    @Test func theClientsOwnWordsIdentifyNoUser() throws {
        let labelled = try #require(try events("1.109.1/user_and_metadata").first)
        #expect(labelled.endUser == "enduser-7")
        #expect(labelled.tags.count == 4)
        #expect(labelled.identity.userID == 42 && labelled.identity.laravelUserID == 42)
        for spoof in try events("1.109.1/client_metadata_spoof") {
            #expect(spoof.identity.laravelUserID == nil && spoof.identity.userID == nil)
            #expect(spoof.status == .error)
        }
    }

    @Test func anUnknownPriceIsACostOfZero() throws {
        let event = try #require(try events("1.109.1/unknown_price").first)
        #expect(event.modelGroup == "unknown-price" && event.cost?.isZero == true && event.inputTokens == 1000)
    }

    @Test(arguments: [
        "1.109.1/unicode_nul", "1.83.14/unicode_nul", "1.83.14/nul_in_response", "1.83.14/lone_surrogate_req",
    ])
    func nulAndLoneSurrogatesLoseNothing(name: String) throws {
        let event = try #require(try events(name).first)
        #expect(event.identity.userID == 42)
        #expect(event.status == (name.contains("surrogate") ? .error : .success))
    }
}
