extension SettingsReader {
    /// A whole number inside `range`.
    package func int(_ name: String, in range: ClosedRange<Int>, default fallback: Int) -> Int {
        parsed(name, as: "a number from \(range.lowerBound) to \(range.upperBound)", default: fallback) { text in
            Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// `true`, `1`, `on`, `yes` or `false`, `0`, `off`, `no`, also in Laravel's parentheses.
    package func bool(_ name: String, default fallback: Bool) -> Bool {
        parsed(name, as: "true or false", default: fallback) { Self.truth[$0.lowercased()] }
    }

    /// A time such as `500ms`, `15s`, `2m` or `1h`; a bare number is seconds.
    package func duration(_ name: String, in range: ClosedRange<Duration>, default fallback: Duration) -> Duration {
        let shown = "\(range.lowerBound.settingText) to \(range.upperBound.settingText)"
        return parsed(
            name, as: "a time from \(shown), such as 15s or 500ms", default: fallback, shownAs: fallback.settingText
        ) { text in
            Self.scaled(text, by: Self.milliseconds).map { .milliseconds($0) }.flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// A number of bytes such as `65536`, `512K`, `64MB` or `1GiB`, in powers of 1024.
    package func bytes(_ name: String, in range: ClosedRange<Int>, default fallback: Int) -> Int {
        parsed(name, as: "a size from \(range.lowerBound) to \(range.upperBound) bytes", default: fallback) { text in
            Self.scaled(text, by: Self.byteUnits).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// Address ranges separated by commas or spaces; none when not set.
    package func cidrs(_ name: String) -> [CIDR] {
        parsed(name, as: "a list of addresses such as 10.0.0.0/8, 2001:db8::1", default: [], shownAs: "") { text in
            let parts = text.split { $0 == "," || $0.isWhitespace }
            let ranges = parts.compactMap { CIDR($0) }
            return ranges.count == parts.count ? ranges : nil
        }
    }

    /// What `table` says of a word, in any case; the default is a word of the table.
    package func choice<T>(_ name: String, of table: [String: T], default fallback: String) -> T {
        guard let standard = table[fallback] else { preconditionFailure("\(name) has no word '\(fallback)'") }
        let words = table.keys.sorted().joined(separator: ", ")
        return parsed(name, as: "one of \(words)", default: standard, shownAs: fallback) { table[$0.lowercased()] }
    }

    private static let truth: [String: Bool] = [
        "true": true, "(true)": true, "1": true, "on": true, "yes": true,
        "false": false, "(false)": false, "0": false, "off": false, "no": false,
    ]

    private static let milliseconds: [String: Int] = ["ms": 1, "": 1000, "s": 1000, "m": 60_000, "h": 3_600_000]

    private static let byteUnits: [String: Int] = [
        "": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
        "g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
    ]

    /// The number that `text` begins with, times what `units` says of the rest.
    private static func scaled(_ text: String, by units: [String: Int]) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count).drop { $0 == " " }.lowercased()
        guard let number = Int(digits), let factor = units[unit] else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}

extension Duration {
    /// As a setting writes it: whole seconds where possible.
    fileprivate var settingText: String {
        let milliseconds = components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
        return milliseconds.isMultiple(of: 1000) ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
    }
}
