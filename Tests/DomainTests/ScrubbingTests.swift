import Domain
import Testing

@Suite(.timeLimit(.minutes(30))) struct ScrubbingTests {
    private static let hex = "a11111111111111111111111111111111111111111111111111111111111f111"

    @Test(arguments: [
        ("Invalid key cf_\(hex).", "Invalid key ***."), ("sk-1234", "***"), ("(sk-proj-abc_DEF-123)", "(***)"),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"), ("BEARER xyz!", "BEARER ***!"),
        ("hash \(hex) unknown", "hash *** unknown"), ("x\(hex)", "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln", "***.***.c2ln"), ("ümlaut cf_abcdef ğ", "ümlaut *** ğ"),
        ("a-cf_b_\(hex)", "***"),
    ])
    func replacesWhatLooksLikeACredential(text: String, expected: String) {
        #expect(text.scrubbed() == expected)
    }

    @Test(arguments: [
        "", "Monthly limit reached", "openai/gpt-4o", "cf_1", "sk-", "claude-3-5-sonnet-20241022",
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "4a9a3edb-8181-440c-a6f7-b8e9ec80f657",
        "bearer", "the bearer", "pneumonoultramicroscopicsilicovolcanoconiosis", "ğüşiöç 日本語 👋🏽",
    ])
    func leavesEverythingElseAsItIs(text: String) {
        #expect(text.scrubbed() == text)
    }

    @Test func everyOccurrenceOfAGivenSecretIsReplaced() {
        #expect("hunter2 and xhunter2x".scrubbed(of: ["hunter2"]) == "*** and x***x")
        #expect("aaaaa".scrubbed(of: ["aaaa"]) == "***a")
        #expect("geheim-ğ!".scrubbed(of: ["heim-ğ"]) == "ge***!")
        #expect("abc".scrubbed(of: ["abc", ""]) == "abc")
        #expect("short".scrubbed(of: ["a longer secret"]) == "short")
    }
}
