import Bootstrap
import Testing

@Suite(.timeLimit(.minutes(30))) struct WebhookKeysTests {
    private static let current = "0123456789abcdef0123456789abcdef"
    private static let previous = "fedcba9876543210fedcba9876543210"

    private func keys(_ environment: [String: String]) throws -> WebhookKeys {
        try SettingsReader(environment: environment).read { WebhookKeys(reading: $0) }
    }

    @Test func bothKeysAreAcceptedAndNoOther() throws {
        let keys = try keys([
            "LITELLM_WEBHOOK_KEY": Self.current, "LITELLM_WEBHOOK_KEY_PREVIOUS": Self.previous,
        ])
        #expect(keys.accepts(Self.current) && keys.accepts(Self.previous))
        for other in ["", " ", Self.current + "0", String(Self.current.dropLast()), Self.current.uppercased()] {
            #expect(!keys.accepts(other))
        }
    }

    @Test func thePreviousKeyMayBeAbsentAndTheEmptyKeyOpensNothing() throws {
        let keys = try keys(["LITELLM_WEBHOOK_KEY": Self.current, "LITELLM_WEBHOOK_KEY_PREVIOUS": ""])
        #expect(keys.accepts(Self.current))
        #expect(!keys.accepts(""))
    }

    @Test(arguments: [
        "", "short", "your_webhook_key_goes_here_0123456789", "please-CHANGE-me-please-change-me-0123",
        "secure_webhook_key_here", "an-example-key-0123456789-0123456789", String(repeating: "a", count: 40),
        String(Self.current.dropLast()),
    ])
    func aBadKeyStopsTheStartWithoutBeingShown(key: String) {
        for name in ["LITELLM_WEBHOOK_KEY", "LITELLM_WEBHOOK_KEY_PREVIOUS"] where name.hasSuffix("KEY") || !key.isEmpty
        {
            let environment = ["LITELLM_WEBHOOK_KEY": Self.current].merging([name: key]) { $1 }
            let error = #expect(throws: ConfigurationError.self) { try keys(environment) }
            #expect(error?.problems.count == 1)
            #expect(error?.description.hasPrefix(name + ": ") == true)
            #expect(key.isEmpty || error?.description.contains(key) == false)
        }
    }
}
