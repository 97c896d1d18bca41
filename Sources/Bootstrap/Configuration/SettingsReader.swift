internal import Configuration
internal import FoundationEssentials
package import Logging

/// Why a program does not start: everything that is wrong with its configuration, found in one pass.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    /// One sentence for each fault, which names the variable and never shows a secret.
    package let problems: [String]

    /// An error with these problems.
    package init(problems: [String]) {
        self.problems = problems
    }

    /// One line for each fault.
    package var description: String { problems.joined(separator: "\n") }
}

/// A setting as a program uses it, for a log. A secret is shown as `***`.
package struct EffectiveSetting: Sendable, Equatable, CustomStringConvertible {
    /// Where the value comes from.
    package enum Source: String, Sendable {
        case environment
        case dotEnv = ".env"
        case `default`
    }

    /// The name of the environment variable.
    package let name: String
    /// The value, or `***`.
    package let value: String
    /// Where the value comes from.
    package let source: Source

    /// `WEBHOOK_PORT=8081 (default)`
    package var description: String { "\(name)=\(value) (\(source.rawValue))" }
}

/// Reads the settings of one program from the real environment, then from `.env`, and collects everything wrong.
///
/// A variable that is absent, empty or one of Laravel's words for nothing (`null`, `(null)`, `empty`, `(empty)`) is not
/// set. A value that is set but malformed is a problem and never the default. The reader then continues with the
/// default, so that ``read(_:)`` can name every problem at once.
package final class SettingsReader {
    private let environment: [String: String]
    private let reader: ConfigReader
    /// What was found wrong so far, a sentence each.
    package private(set) var problems: [String] = []
    private var used: [String: EffectiveSetting] = [:]

    /// - Parameters:
    ///   - environment: The real environment, which wins.
    ///   - dotEnv: The values of the `.env` file.
    package init(environment: [String: String], dotEnv: [String: String] = [:]) {
        self.environment = environment
        reader = ConfigReader(providers: [
            EnvironmentVariablesProvider(environmentVariables: environment),
            EnvironmentVariablesProvider(environmentVariables: dotEnv),
        ])
    }

    /// What `build` makes of the settings it reads.
    ///
    /// - Throws: ``ConfigurationError`` with every problem that came up inside `build`; what `build` throws.
    package func read<Settings>(
        _ build: (SettingsReader) throws -> Settings
    ) throws -> Settings {
        let settings = try build(self)
        if !problems.isEmpty { throw ConfigurationError(problems: problems) }
        return settings
    }

    /// Every setting that was read, sorted by name, for the line at start and `--print-config`.
    package var effective: [EffectiveSetting] {
        used.values.sorted { $0.name < $1.name }
    }

    /// Writes the effective settings as one line.
    package func log(to logger: Logger) {
        let settings = effective.map { ($0.name, Logger.MetadataValue.string("\($0.value) (\($0.source.rawValue))")) }
        logger.info("configuration", metadata: Dictionary(uniqueKeysWithValues: settings))
    }

    /// Notes that the setting `name` is wrong because `reason` ("is not …", "must …").
    package func reject(_ name: String, _ reason: String) {
        problems.append("\(name): \(reason)")
    }

    private func value(_ setting: Setting) -> String? {
        let text = reader.string(forKey: ConfigKey(setting.name), isSecret: setting.isSecret)
            .flatMap { Self.isUnset($0) ? nil : $0 }
        used[setting.name] = EffectiveSetting(
            name: setting.name, value: text.map { setting.isSecret ? "***" : $0 } ?? setting.standard,
            source: text == nil ? .default : environment[setting.name] == nil ? .dotEnv : .environment)
        return text
    }

    private static func isUnset(_ text: String) -> Bool {
        ["", "null", "(null)", "empty", "(empty)"].contains(text.lowercased())
    }
}

extension SettingsReader {
    /// A text, or the default.
    package func string(_ setting: Setting) -> String {
        value(setting) ?? setting.standard
    }

    /// A text, or `nil` when it is not set.
    package func optionalString(_ setting: Setting) -> String? {
        value(setting)
    }

    /// A text that is never shown, or `nil` when it is not set.
    package func secret(_ setting: Setting) -> Secret? {
        value(setting).map(Secret.init)
    }

    /// What `parse` makes of a value that is not secret, or of the default.
    package func parsed<T>(_ setting: Setting, _ parse: (String) -> T?) -> T {
        guard let standard = parse(setting.standard) else {
            preconditionFailure("the default of \(setting.name), '\(setting.standard)', is not \(setting.form)")
        }
        guard let text = value(setting) else { return standard }
        guard let result = parse(text) else {
            reject(setting.name, "'\(text.printable)' is not \(setting.form)")
            return standard
        }
        return result
    }

    /// A whole number inside the setting's range.
    package func int(_ setting: Setting) -> Int {
        guard case .number(let range) = setting.kind else { Self.stop(setting, "a number") }
        return parsed(setting) { text in Int(text).flatMap { range.contains($0) ? $0 : nil } }
    }

    /// Whether the setting is on.
    package func bool(_ setting: Setting) -> Bool {
        parsed(setting) { Self.booleans[$0.lowercased()] }
    }

    /// A time inside the setting's range.
    package func duration(_ setting: Setting) -> Duration {
        guard case .duration(let range) = setting.kind else { Self.stop(setting, "a time") }
        return parsed(setting) { text in
            Self.scaled(text, by: Self.milliseconds).map { .milliseconds($0) }.flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// A number of bytes inside the setting's range.
    package func bytes(_ setting: Setting) -> Int {
        guard case .bytes(let range) = setting.kind else { Self.stop(setting, "a size") }
        return parsed(setting) { text in
            Self.scaled(text, by: Self.byteUnits).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// Address ranges; none when not set.
    package func cidrs(_ setting: Setting) -> [CIDR] {
        parsed(setting) { text in
            let parts = text.split { $0 == "," || $0.isWhitespace }
            let ranges = parts.compactMap { CIDR($0) }
            return ranges.count == parts.count ? ranges : nil
        }
    }

    /// What `meanings` has for the setting's word.
    package func choice<T>(_ setting: Setting, of meanings: [String: T]) -> T {
        guard setting.kind == .word(meanings.keys.sorted()) else { Self.stop(setting, "one of \(meanings.keys)") }
        return parsed(setting) { meanings[$0.lowercased()] }
    }

    private static func stop(_ setting: Setting, _ kind: String) -> Never {
        preconditionFailure("\(setting.name) is declared as \(setting.form) and read as \(kind)")
    }

    private static let booleans: [String: Bool] = [
        "true": true, "(true)": true, "1": true, "on": true, "yes": true,
        "false": false, "(false)": false, "0": false, "off": false, "no": false,
    ]

    private static let milliseconds: [String: Int] = ["ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000]

    private static let byteUnits: [String: Int] = [
        "": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
        "g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
    ]

    /// The number that `text` begins with, times the factor of the unit that follows.
    private static func scaled(_ text: String, by units: [String: Int]) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count).drop { $0 == " " }.lowercased()
        guard let number = Int(digits), let factor = units[unit] else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}

extension SettingsReader {
    /// The levels of swift-log, and those of Laravel (RFC 5424).
    private static let logLevels: [String: Logger.Level] =
        Dictionary(uniqueKeysWithValues: Logger.Level.allCases.map { ($0.rawValue, $0) })
        .merging(["alert": .critical, "emergency": .critical]) { level, _ in level }

    /// `LOG_LEVEL`
    package static let logLevelSetting = Setting(
        "LOG_LEVEL", .word(logLevels.keys.sorted()), default: "info", "The least severe level that is logged.")

    /// The level of ``logLevelSetting``.
    package func logLevel() -> Logger.Level {
        choice(Self.logLevelSetting, of: Self.logLevels)
    }
}

extension SettingsReader {
    /// Where the settings file is. It is read before all other settings and from the real environment only.
    package static let fileSetting = Setting(
        "CODEXFLOW_ENV_FILE", .text, default: ".env", "The file with settings that are not in the environment.")

    /// A reader of this process's environment and of the settings file.
    ///
    /// - Throws: ``ConfigurationError`` when the file is malformed or unreadable, or a named one is missing.
    package static func load() throws(ConfigurationError) -> SettingsReader {
        try load(environment: ProcessInfo.processInfo.environment)
    }

    /// A reader of `environment` and of the settings file.
    ///
    /// - Throws: ``ConfigurationError`` when the file is malformed or unreadable, or a named one is missing.
    package static func load(environment: [String: String]) throws(ConfigurationError) -> SettingsReader {
        let named = environment[fileSetting.name].flatMap { $0.isEmpty ? nil : $0 }
        let path = named ?? fileSetting.standard
        guard named != nil || FileManager.default.fileExists(atPath: path) else {
            return SettingsReader(environment: environment)
        }
        guard let data = try? Data(contentsOf: URL(filePath: path)) else {
            throw ConfigurationError(problems: ["\(fileSetting.name): the file '\(path)' cannot be read"])
        }
        let dotEnv = try DotEnv(parsing: String(decoding: data, as: UTF8.self), environment: environment)
        return SettingsReader(environment: environment, dotEnv: dotEnv.values)
    }
}

extension String {
    /// At most 80 characters without control characters, for a message that must stay one line.
    fileprivate var printable: String {
        String(prefix(80).map { $0.isNewline || ($0.asciiValue ?? 32) < 32 ? "?" : $0 })
    }
}
