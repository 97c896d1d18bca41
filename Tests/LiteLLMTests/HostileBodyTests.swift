import Domain
import Foundation
import LiteLLM
import TestSupport
import Testing

/// Bodies that break parsers.
@Suite(.timeLimit(.minutes(30))) struct HostileBodyTests {
    @Test(arguments: [("[", "]"), (#"{"a":"#, "}")])
    func deepNestingInWhatIsNotNeededCostsNothing(open: String, close: String) throws {
        let depth = 100_000
        let deep = String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth)
        let body =
            #"{"messages": \#(deep), "response": {"choices": \#(deep)}, "request_tags": \#(deep), "error": \#(deep), "#
            + proxyEvent().dropFirst()
        let parsed = EventParser.parse("[\(body), \(proxyEvent())]")
        #expect(parsed.events.count == 2)
        #expect(EventParser.parse(String(repeating: open, count: depth)).rejections.count == 1)
        #expect(EventParser.parse("[\(deep), \(proxyEvent())]").results.count == 2)
    }

    @Test func bytesThatAreNoUTF8AreReplaced() throws {
        let body = Array(proxyEvent(#""end_user": "a?b", "messages": "?""#).utf8).map {
            $0 == UInt8(ascii: "?") ? 0xFF : $0
        }
        let parsed = EventParser.parse(body + Array("\n".utf8) + Array(proxyEvent().utf8), arrival: captured)
        #expect(parsed.events.map(\.endUser) == ["a\u{FFFD}b", nil])
    }

    @Test func controlCharactersInsideStringsAreReplaced() throws {
        let event = try EventParser.parse(proxyEvent("\"end_user\": \"a\tb\0c\"")).onlyEvent()
        #expect(event.endUser == "a b c")
    }

    @Test func theLastOfRepeatedMembersCountsWithAllThatIsInside() throws {
        let event = try EventParser.parse(
            proxyEvent(
                #""metadata": {"user_api_key_user_id": "7"}, "model_group": "a", "model_group": "b", "usage": 1"#)
        ).onlyEvent()
        #expect(event.identity == IdentityClaim(userID: 7))
        #expect(event.modelGroup == "b")
        let nothing = EventParser.parse(proxyEvent(#""metadata": null"#))
        #expect(try nothing.onlyReason() == .missingIdentity)
    }

    @Test func escapedMemberNamesAreMembers() throws {
        let event = try EventParser.parse(proxyEvent(#""model\u005fgroup": "escaped", "\u0000": 1, "\ud800": 2"#))
            .onlyEvent()
        #expect(event.modelGroup == "escaped")
    }

    @Test func bareWordsOutsideTheNeededMembersArePassedOver() throws {
        let event = try EventParser.parse(proxyEvent(#""x": NaN, "y": [Infinity, -Infinity], "z": tru"#)).onlyEvent()
        #expect(event.inputTokens == 10)
    }

    @Test func anArrayIsReadInPlaceSoItsLastElementToo() throws {
        for padding in 0...130 {
            let body = proxyEvent(#""x": "\#(String(repeating: "y", count: padding))""#)
            #expect(EventParser.parse("[\(body)]").events.count == 1, "\(padding)")
            #expect(EventParser.parse("[\(body)" + String(repeating: " ", count: padding) + "]").events.count == 1)
        }
    }

    @Test func stringsAreUnescapedAsFoundationDoesIt() throws {
        var generator = SplitMix(state: TestSeed.seed(standard: 3))
        let pieces = [
            "a", "é", "日", "😀", #"\n"#, #"\""#, #"\\"#, #"\/"#, #"\b\f\r\t"#, #"\u00e9"#, #"\uD83D\uDE00"#, #"\u65E5"#,
            " x ", #"\\\\"#,
        ]
        for _ in 0..<500 {
            let literal = (0..<Int.random(in: 1...12, using: &generator))
                .compactMap { _ in pieces.randomElement(using: &generator) }.joined()
            let expected = try JSONDecoder().decode([String].self, from: Data("[\"x\(literal)x\"]".utf8))
            let event = try EventParser.parse(proxyEvent(#""end_user": "x\#(literal)x""#)).onlyEvent()
            #expect(event.endUser == expected.first)
        }
    }

    @Test(arguments: [
        (#"\ud83d"#, "\u{FFFD}"), (#"\ude00"#, "\u{FFFD}"), (#"\ud83d\ud83d\ude00"#, "\u{FFFD}😀"),
        (#"\ud83dx"#, "\u{FFFD}x"),
        (#"\ud83d\n"#, "\u{FFFD}\n"), (#"a\u0000b"#, "ab"), (#"\u12"#, "\u{FFFD}12"), (#"\uzzzz"#, "\u{FFFD}zzzz"),
        (#"\q"#, "q"),
    ])
    func brokenEscapesLoseNoEvent(literal: String, expected: String) throws {
        let event = try EventParser.parse(proxyEvent(#""end_user": "<\#(literal)>""#)).onlyEvent()
        #expect(event.endUser == "<\(expected)>")
    }

    @Test func aPromptOfMegabytesIsPassedOver() throws {
        let prompt = String(repeating: #"{\"a\": [1, 2]} "#, count: 200_000)
        let event = try EventParser.parse(proxyEvent(#""messages": [{"content": "\#(prompt)"}]"#)).onlyEvent()
        #expect(event.modelGroup == "gpt-4")
    }
}
