import Storage

/// A release of LiteLLM, as its answers name it.
struct LiteLLMVersion: Comparable, CustomStringConvertible {
    /// The first release that neither loses nor multiplies events by itself.
    static let oldest = LiteLLMVersion(1, 109, 1)
    /// The releases that the tests of the module run on.
    static let tested = [oldest, LiteLLMVersion(1, 110, 2)]
    /// Releases in which somebody else's code was published.
    static let compromised = [LiteLLMVersion(1, 107, 0)]

    private let numbers: [Int]

    private init(_ numbers: Int...) { self.numbers = numbers }

    /// The release that `text` names, also with `v` before it and words after it, such as `v1.109.1-stable`.
    init?(_ text: some StringProtocol) {
        guard let match = String(text).firstMatch(of: /^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?!\d)/),
            let major = Int(match.1), let minor = Int(match.2), let patch = Int(match.3)
        else { return nil }
        numbers = [major, minor, patch]
    }

    var description: String { numbers.map(String.init).joined(separator: ".") }

    static func < (left: LiteLLMVersion, right: LiteLLMVersion) -> Bool {
        left.numbers.lexicographicallyPrecedes(right.numbers)
    }

    /// What is wrong with it; `nil` where it is one to use.
    var finding: Finding? {
        let newer =
            "Use \(Self.tested.map(\.description).joined(separator: " or ")), the versions that the tests run on."
        if Self.compromised.contains(self) {
            return .failure(
                "proxy",
                "LiteLLM \(self) was compromised: it may have given away every key and secret that it has seen",
                "Stop it. \(newer) Replace its provider keys, its master key, the webhook key and the customers' keys.")
        }
        guard self >= Self.oldest else {
            return .warning(
                "proxy", "LiteLLM \(self) is older than \(Self.oldest): it loses or multiplies events", newer)
        }
        return nil
    }
}
