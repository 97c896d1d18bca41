internal import Configuration

/// Reads the settings of one program from the real environment and then `.env`, and collects everything that is wrong.
///
/// A variable that is absent, empty or one of Laravel's words for nothing (`null`, `(null)`, `empty`, `(empty)`) is not
/// set. A value that is set but malformed is a problem and never becomes the default; the reader then goes on with a
/// stand-in, so that ``read(_:)`` can name every problem at once.
package final class SettingsReader {
    private let environment: [String: String]
    private let reader: ConfigReader
    /// What was found wrong so far, a sentence each.
    package private(set) var problems: [String] = []
    private var used: [String: EffectiveSetting] = [:]

    /// - Parameters:
    ///   - environment: The real environment; it wins.
    ///   - dotEnv: The values of the `.env` file.
    package init(environment: [String: String], dotEnv: [String: String] = [:]) {
        self.environment = environment
        reader = ConfigReader(providers: [
            EnvironmentVariablesProvider(environmentVariables: environment),
            EnvironmentVariablesProvider(environmentVariables: dotEnv),
        ])
    }

    /// What `build` makes of the settings it reads.
    /// - Throws: ``ConfigurationError`` with every problem that came up inside `build`.
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

    /// Notes that `name` is wrong because `reason` ("is not …", "must …").
    package func reject(_ name: String, _ reason: String) {
        problems.append("\(name): \(reason)")
    }

    /// A text, or `nil` when it is not set.
    package func string(_ name: String) -> String? {
        value(name, isSecret: false, default: nil)
    }

    /// A text.
    package func string(_ name: String, default fallback: String) -> String {
        value(name, isSecret: false, default: fallback) ?? fallback
    }

    /// A text that is never shown, or `nil` when it is not set.
    package func secret(_ name: String) -> Secret? {
        value(name, isSecret: true, default: nil).map(Secret.init)
    }

    /// What `parse` makes of a value that is not secret; `expectation` completes "'x' is not …".
    package func parsed<T>(
        _ name: String, as expectation: String, default fallback: T, shownAs shown: String? = nil,
        _ parse: (String) -> T?
    ) -> T {
        guard let text = value(name, isSecret: false, default: shown ?? String(describing: fallback)) else {
            return fallback
        }
        guard let result = parse(text) else {
            reject(name, "'\(text.printable)' is not \(expectation)")
            return fallback
        }
        return result
    }

    private func value(_ name: String, isSecret: Bool, default fallback: String?) -> String? {
        let text = reader.string(forKey: ConfigKey(name), isSecret: isSecret).flatMap { Self.unset($0) ? nil : $0 }
        used[name] = EffectiveSetting(
            name: name,
            value: text.map { isSecret ? "***" : $0 } ?? fallback ?? "",
            source: text == nil ? .default : environment[name] == nil ? .dotEnv : .environment)
        return text
    }

    private static func unset(_ text: String) -> Bool {
        ["", "null", "(null)", "empty", "(empty)"].contains(text.lowercased())
    }
}

extension String {
    /// At most 80 characters without control characters, for a message that must stay one line.
    fileprivate var printable: String {
        String(prefix(80).map { $0.isNewline || ($0.asciiValue ?? 32) < 32 ? "?" : $0 })
    }
}
