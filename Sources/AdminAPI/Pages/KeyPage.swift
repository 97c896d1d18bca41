import Domain
import HTTPSupport
import HTTPTypes

/// The caller's API key: its first characters, a new one in its place, and how to call the proxy with it.
struct KeyPage: Sendable {
    let example: CallExample

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        .page("key", try await values(request))
    }

    /// Replaces the key, and shows the new one once.
    @Sendable func rotate(_ request: PageRequest) async throws -> PageAnswer {
        guard request.field("confirm") == "yes" else {
            let problem: JSON = ["problem": "key_unconfirmed"]
            return .page("key", try await values(request).merging(problem), status: .unprocessableContent)
        }
        // All else is read first: the new key is shown only now.
        let values = try await values(request)
        let key = try await request.json("regenerateKey")["api_key"] ?? .null
        return .page("key", values.merging(["new_key": key, "example_key": key]))
    }

    private func values(_ request: PageRequest) async throws -> JSON {
        try await example.values(request).merging(["new_key": .null, "problem": .null])
    }
}

/// A call of the proxy, for people to copy.
struct CallExample: Sendable {
    /// Where customers reach LiteLLM; `nil` where no setting says it.
    let proxy: String?

    /// How much of a key may be shown.
    private static let shownCharacters = 7

    /// The proxy's address, a model, and what stands for the key of `request`'s caller.
    ///
    /// - Throws: ``AppError``.
    func values(_ request: PageRequest) async throws -> JSON {
        let key = try await request.json("getSettings")["api_key"]?.text
        let models = try await request.json("listModels").elements ?? []
        let prefix = key.map { String($0.prefix(Self.shownCharacters)) }
        return [
            "proxy_url": .string(proxy ?? "https://PROXY"), "has_proxy": .bool(proxy != nil), "key_prefix": prefix.json,
            "example_key": .string(prefix.map { "\($0)…" } ?? "cf_…"),
            "example_model": .string(models.lazy.compactMap { $0["model_id"]?.text }.first(where: isPlain) ?? "gpt-4o"),
        ]
    }

    /// Whether `model` is a name that a shell reads as it is.
    private func isPlain(_ model: String) -> Bool { model.wholeMatch(of: /[A-Za-z0-9._:\/@-]+/) != nil }
}
