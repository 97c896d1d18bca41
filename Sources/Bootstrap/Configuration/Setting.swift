/// One setting that a program reads from the environment. The tables of all programs make `docs/configuration.md`.
package struct Setting: Sendable, Equatable {
    /// What a value looks like.
    package enum Kind: Sendable, Equatable {
        case text
        /// A text that no log shows.
        case secret
        /// `true`, `1`, `on`, `yes` or `false`, `0`, `off`, `no`, also in Laravel's parentheses.
        case boolean
        case number(ClosedRange<Int>)
        /// A time such as `500ms`, `15s`, `2m` or `1h`; a bare number is seconds.
        case duration(ClosedRange<Duration>)
        /// A number of bytes such as `65536`, `512K`, `64MB` or `1GiB`, in powers of 1024.
        case bytes(ClosedRange<Int>)
        /// Address ranges separated by commas or spaces.
        case networks
        /// One of these words, in any case.
        case word([String])
        /// A text of another form, which completes the sentence "the value is not …".
        case form(String)
    }

    /// The name of the environment variable.
    package let name: String
    /// The form of its values.
    package let kind: Kind
    /// The value that counts where none is set, as a value is written; empty for none.
    package let standard: String
    /// One sentence about what the setting does.
    package let meaning: String

    /// A setting. `meaning` is one sentence about what it does.
    package init(_ name: String, _ kind: Kind, default standard: String = "", _ meaning: String) {
        self.name = name
        self.kind = if case .word(let words) = kind { .word(words.sorted()) } else { kind }
        self.standard = standard
        self.meaning = meaning
    }

    /// The same setting with another default, where that depends on another setting.
    package func defaulting(to standard: String) -> Setting {
        Setting(name, kind, default: standard, meaning)
    }

    /// Whether no log may show the value.
    package var isSecret: Bool { kind == .secret }

    /// What completes the sentence "the value is not …".
    package var form: String {
        switch kind {
        case .text, .secret: "a text"
        case .boolean: "true or false"
        case .number(let range): "a number from \(range.lowerBound) to \(range.upperBound)"
        case .duration(let range):
            "a time from \(range.lowerBound.settingText) to \(range.upperBound.settingText), such as 15s or 500ms"
        case .bytes(let range): "a size from \(range.lowerBound) to \(range.upperBound) bytes"
        case .networks: "a list of addresses such as 10.0.0.0/8, 2001:db8::1"
        case .word(let words): "one of \(words.sorted().joined(separator: ", "))"
        case .form(let form): form
        }
    }
}

/// The settings of a program, or of a part that several programs have.
package struct SettingsTable: Sendable, ExpressibleByArrayLiteral {
    /// The settings, in the order of the reference.
    package let settings: [Setting]

    /// A table of these settings.
    package init(_ settings: [Setting]) {
        self.settings = settings
    }

    /// A table of these settings.
    package init(arrayLiteral elements: Setting...) {
        settings = elements
    }

    /// The setting `name`. A program that reads what its table does not have stops here, in every test that starts it.
    package subscript(name: String) -> Setting {
        guard let setting = settings.first(where: { $0.name == name }) else {
            preconditionFailure("\(name) is not in the table of settings")
        }
        return setting
    }

    /// All settings of both. A setting that both have is that of `left`.
    package static func + (left: SettingsTable, right: SettingsTable) -> SettingsTable {
        let names = Set(left.settings.map(\.name))
        return SettingsTable(left.settings + right.settings.filter { !names.contains($0.name) })
    }

    /// One JSON object a line: `name`, `form`, `default`, `secret` and `meaning`, sorted by name.
    package var json: String {
        settings.sorted { $0.name < $1.name }.map { setting in
            let members = [
                "name": setting.name.quotedForJSON, "form": setting.form.quotedForJSON,
                "default": setting.standard.quotedForJSON, "secret": "\(setting.isSecret)",
                "meaning": setting.meaning.quotedForJSON,
            ]
            return "{"
                + members.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }
                .joined(separator: ", ") + "}"
        }.joined(separator: "\n")
    }
}

extension Duration {
    /// As a setting writes it: whole seconds where possible.
    package var settingText: String {
        let milliseconds = components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
        return milliseconds.isMultiple(of: 1000) ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
    }
}

extension String {
    /// The texts of tables have no control characters.
    fileprivate var quotedForJSON: String {
        "\"" + replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
    }
}
