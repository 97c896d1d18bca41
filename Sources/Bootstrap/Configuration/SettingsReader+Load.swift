internal import FoundationEssentials

extension SettingsReader {
    /// A reader of this process's environment and the `.env` file of its working directory, or the one that
    /// `CODEXFLOW_ENV_FILE` names.
    /// - Throws: ``ConfigurationError`` when the file is malformed or unreadable, or a named one is missing.
    package static func load() throws(ConfigurationError) -> SettingsReader {
        try load(environment: ProcessInfo.processInfo.environment)
    }

    /// As ``load()`` with an `environment` of the caller's choice.
    /// - Throws: ``ConfigurationError``
    package static func load(environment: [String: String]) throws(ConfigurationError) -> SettingsReader {
        let named = environment["CODEXFLOW_ENV_FILE"].flatMap { $0.isEmpty ? nil : $0 }
        let path = named ?? ".env"
        guard named != nil || FileManager.default.fileExists(atPath: path) else {
            return SettingsReader(environment: environment)
        }
        guard let data = try? Data(contentsOf: URL(filePath: path)) else {
            throw ConfigurationError(problems: ["CODEXFLOW_ENV_FILE: the file '\(path)' cannot be read"])
        }
        let dotEnv = try DotEnv(parsing: String(decoding: data, as: UTF8.self), environment: environment)
        return SettingsReader(environment: environment, dotEnv: dotEnv.values)
    }
}
