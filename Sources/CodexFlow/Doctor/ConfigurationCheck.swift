import Bootstrap
import Postgres
import Storage

/// The settings in force, and the secrets among them.
enum ConfigurationCheck {
    /// Each problem, and each setting with its source. A secret is shown as `***`.
    static func findings(_ reader: SettingsReader) -> [Finding] {
        reader.problems.map {
            Finding.failure("configuration", $0, "Correct it in the environment or .env; see .env.example.")
        } + reader.effective.map { .ok("configuration", $0.description) }
    }

    /// Whether the webhook's keys could be guessed or are known elsewhere. A missing, short or placeholder key is not
    /// reported here: it is a configuration problem, and the service does not start.
    static func keyStrength(_ settings: DoctorSettings) -> [Finding] {
        let keys = [
            ("LITELLM_WEBHOOK_KEY", settings.webhookKey), ("LITELLM_WEBHOOK_KEY_PREVIOUS", settings.previousKey),
        ]
        let remedy = "Make one by: openssl rand -hex 32"
        var findings: [Finding] = []
        for case (let name, let key?) in keys {
            let text = key.reveal()
            if text == settings.database.password {
                findings.append(.failure("key strength", "\(name) is the database's password", remedy))
            } else if text.count >= 32, let weakness = weakness(of: text) {
                findings.append(.warning("key strength", "\(name) \(weakness)", remedy))
            }
        }
        if let current = settings.webhookKey, current == settings.previousKey {
            findings.append(
                .warning(
                    "key strength", "LITELLM_WEBHOOK_KEY_PREVIOUS is the current key",
                    "Remove it, or make the current key a new one."))
        }
        findings += masterKey(settings)
        return findings.isEmpty ? [.ok("key strength", "the keys are fit for use")] : findings
    }

    /// Whether LiteLLM's master key is a secret of its own: a sender of events must not administer the proxy.
    static func masterKey(_ settings: DoctorSettings) -> [Finding] {
        guard let master = settings.masterKey?.reveal() else { return [] }
        let remedy = "Make it anew, in LiteLLM's environment and here, by: echo \"sk-$(openssl rand -hex 32)\""
        let bare = master.hasPrefix("sk-") ? String(master.dropFirst(3)) : master
        let keys = [
            ("LITELLM_WEBHOOK_KEY", settings.webhookKey), ("LITELLM_WEBHOOK_KEY_PREVIOUS", settings.previousKey),
        ]
        for case (let name, let key?) in keys {
            let text = key.reveal()
            if master.contains(text) || !bare.isEmpty && text.contains(bare) {
                return [
                    .failure(
                        "key strength",
                        "LITELLM_MASTER_KEY can be made from \(name): a sender of events could administer the proxy",
                        remedy)
                ]
            }
        }
        if bare.count < 32 {
            return [.warning("key strength", "LITELLM_MASTER_KEY is shorter than 32 characters", remedy)]
        }
        return weakness(of: bare).map { [.warning("key strength", "LITELLM_MASTER_KEY \($0)", remedy)] } ?? []
    }

    /// Why a key would be guessed early: it repeats a pattern, has few different characters, or consists of words.
    static func weakness(of key: String) -> String? {
        let characters = Array(key)
        let repeats = characters.indices.dropFirst().contains { length in
            length <= characters.count / 2
                && characters.indices.allSatisfy { characters[$0] == characters[$0 % length] }
        }
        if repeats { return "repeats a pattern" }
        // 32 random hexadecimal digits have fewer than 8 different ones about once in ten million.
        if Set(characters).count < 8 { return "has few different characters" }
        let words = key.split { "-_. ".contains($0) }
        let isWords = words.count >= 3 && words.filter { $0.allSatisfy(\.isLetter) }.count * 2 >= words.count
        return isWords ? "is made of words" : nil
    }
}
