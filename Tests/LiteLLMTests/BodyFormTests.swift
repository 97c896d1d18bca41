import Domain
import LiteLLM
import Testing

/// What a body can be, and what of a damaged one is saved.
@Suite(.timeLimit(.minutes(30))) struct BodyFormTests {
    /// `+` for an event, the reason for a rejection.
    private func outline(_ body: String) -> [String] {
        EventParser.parse(body).results.map { result in
            switch result {
            case .success: "+"
            case .failure(let rejection): rejection.reason.rawValue
            }
        }
    }

    @Test(arguments: ["", " \n", "\u{FEFF}", "null", "\"x\"", "5", "true", " null "])
    func noObjectAtAllIsAnsweredAsLaravelDoes(body: String) throws {
        let parsed = EventParser.parse(body)
        #expect(parsed.form == .documented)
        #expect(try parsed.onlyReason() == .unreadable)
    }

    @Test(arguments: [
        #"{"user_id":"#, "user_id=1&model=x", "{", "}", "<html>\n<body>\n</html>", "{]", "nul", #"{"a" 1}"#,
    ])
    func aTextThatCannotBeReadIsOneResult(body: String) throws {
        let parsed = EventParser.parse(body)
        #expect(parsed.form == .events)
        #expect(try parsed.onlyReason() == .unreadable)
        let excerpt = try #require(parsed.rejections.first?.excerpt)
        #expect(excerpt.hasPrefix("\(body.utf8.count) bytes, SHA-256 "))
    }

    @Test func oneObjectIsAnsweredByItsShape() {
        #expect(EventParser.parse(documentedEvent()).form == .documented)
        #expect(EventParser.parse("{}").form == .documented)
        #expect(EventParser.parse(proxyEvent()).form == .events)
        #expect(EventParser.parse("[\(documentedEvent())]").form == .events)
        #expect(EventParser.parse("\u{FEFF} \(documentedEvent())\n\n").form == .documented)
        #expect(EventParser.parse("\(documentedEvent())\n\(documentedEvent())").form == .events)
    }

    @Test(arguments: ["\n", "\r\n", "", " ", "\n\n"])
    func objectsMayFollowOneAnother(separator: String) {
        let body = [proxyEvent(), documentedEvent(), proxyEvent()].joined(separator: separator)
        #expect(outline(body) == ["+", "+", "+"])
    }

    @Test func everyElementOfAnArrayIsAResultInItsPlace() {
        let body = "[null, \(proxyEvent()), 5, \"x,]\", [\(proxyEvent())], \(documentedEvent()), {}, NaN, true]"
        let unreadable = "unreadable"
        let expected = [
            unreadable, "+", unreadable, unreadable, unreadable, "+", "missing_identity", unreadable, unreadable,
        ]
        #expect(outline(body) == expected)
        #expect(outline("[]") == [])
        #expect(outline("[\(proxyEvent()),]") == ["+"])
        #expect(outline("[\(proxyEvent())][\(proxyEvent())]") == ["+", "+"])
    }

    @Test(arguments: [#"{"a": }"#, #"{"a" 1}"#, #"{"a": 1 "b": 2}"#, "{1: 2}", #"{"metadata": {"b"]}"#, #"{,}"#])
    func aBrokenElementHidesNoOther(broken: String) {
        #expect(outline("[\(proxyEvent()), \(broken), \(proxyEvent())]") == ["+", "unreadable", "+"])
        #expect(outline("\(proxyEvent())\n\(broken)\n\(proxyEvent())") == ["+", "unreadable", "+"])
    }

    @Test(arguments: ["x", "}", #"{"a": "unterminated"#, "{{", ",", "1 2"])
    func garbageInAnArrayIsOneResultWithAllTheRest(garbage: String) {
        let results = outline("[\(proxyEvent()), \(garbage) \(proxyEvent())]")
        #expect(results.first == "+")
        #expect(results.dropFirst().allSatisfy { $0 == "unreadable" })
        #expect(results.count >= 2)
    }

    @Test(arguments: [#"{"a": 1"#, #"{"a": "open"#, #"{"a": [1}"#, "garbage", "{{"])
    func aTruncatedLineHidesNoOtherLine(line: String) {
        #expect(
            outline("\(proxyEvent())\n\(line)\n\(proxyEvent())\n\(documentedEvent())\n") == [
                "+", "unreadable", "+", "+",
            ])
    }

    @Test func ofAnArrayCutAnywhereTheWholeElementsAreEventsAndTheRestIsOneResult() {
        let elements = [proxyEvent(), documentedEvent(#""event_id": "é\"]},{""#), "{}"]
        let body = Array("[\(elements.joined(separator: ", "))]".utf8)
        var ends: [Int] = []
        var position = 1
        for element in elements {
            position += element.utf8.count
            ends.append(position)
            position += 2
        }
        for length in 1..<body.count {
            let parsed = EventParser.parse(Array(body[..<length]), arrival: captured)
            let whole = ends.count { $0 <= length }
            #expect(parsed.results.count == whole + 1, "\(length)")
            #expect(parsed.events.count == min(whole, 2), "\(length)")
            #expect(parsed.rejections.last?.reason == .unreadable, "\(length)")
        }
    }

    @Test func aRejectionsKeyIsStableAndDiffersFromOthers() throws {
        let cut = String("[\(proxyEvent()), \(proxyEvent())".dropLast(5))
        let key = try #require(EventParser.parse(cut).rejections.first?.key)
        #expect(EventParser.parse(cut).rejections.first?.key == key)
        #expect(key.high >> 16 == 0)
        #expect(EventParser.parse(String(cut.dropLast())).rejections.first?.key != key)
        // Nothing is left after the last comma, so the whole body distinguishes one cut from another.
        let ends = ["1", "2"].map { EventParser.parse("[\(proxyEvent(#""id": "\#($0)""#)),").rejections.first?.key }
        #expect(ends[0] != nil && ends[0] != ends[1])
    }

    @Test func anExcerptIsBoundedAndShowsTheShapeAlone() throws {
        let body = """
            [{"status": "failure", "call_type" : "acompletion", "startTime": 1795420742.5, "stream":null, \
            "litellm_call_id": "0199e7a0-0000-7abc-8abc-0123456789ab", "model": "my words", "my words": [true, 12], \
            "metadata": {"user_api_key_hash" : "cf_abcdef", "user_id": 4111111111111111}, "prompt_tokens": "cf_abcdef",
            "messages": [{"role": "user", "content": "say \\"status\\": \\"failure\\" and my word
            """
        let excerpt = try #require(EventParser.parse(body).rejections.first?.excerpt)
        #expect(
            excerpt.hasSuffix(
                #": {"status":"failure","call_type":"acompletion","startTime":1795420742.5,"stream":null,"#
                    + #""litellm_call_id":"0199e7a0-0000-7abc-8abc-0123456789ab","model":<8>,<8>:[<4>,<2>],"#
                    + #""metadata":{"user_api_key_hash":<9>,"user_id":<16>},"prompt_tokens":<9>,"#
                    + #""messages":[{"role":<4>,"content":<39>"#), "\(excerpt)")
        let long = try #require(
            EventParser.parse("{" + String(repeating: "ğ\0,", count: 50_000)).rejections.first?.excerpt)
        #expect(long.utf8.count < 2_200 && !long.unicodeScalars.contains("\0"))
    }

    @Test func aBodyHasABoundedNumberOfResults() {
        let parsed = EventParser.parse("[" + String(repeating: "{},", count: 100_010) + "{}]")
        #expect(parsed.results.count == EventParser.maximumEvents + 1)
        #expect(parsed.rejections.last?.reason == .unreadable)
    }
}
