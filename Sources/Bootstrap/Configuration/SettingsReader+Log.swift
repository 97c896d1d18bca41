package import Logging

extension SettingsReader {
    /// Writes the effective settings as one line, so that a log tells what its program was told.
    package func log(to logger: Logger) {
        let settings = effective.map { ($0.name, Logger.MetadataValue.string("\($0.value) (\($0.source.rawValue))")) }
        logger.info("configuration", metadata: Dictionary(uniqueKeysWithValues: settings))
    }
}
