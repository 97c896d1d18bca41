package import Logging

extension SettingsReader {
    /// `LOG_LEVEL`: a level of swift-log or one of Laravel's (RFC 5424 names); `info` when not set.
    package func logLevel() -> Logger.Level {
        let levels = Dictionary(uniqueKeysWithValues: Logger.Level.allCases.map { ($0.rawValue, $0) })
        let laravel: [String: Logger.Level] = ["alert": .critical, "emergency": .critical]
        return choice("LOG_LEVEL", of: levels.merging(laravel) { level, _ in level }, default: "info")
    }
}
