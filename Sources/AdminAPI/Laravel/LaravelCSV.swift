import Domain
import Storage

/// Laravel's `usage_export.csv`.
enum LaravelCSV {
    static let header = Array("Date,Model,Input Tokens,Output Tokens,Total Cost,Response Time,Status\n".utf8)

    /// A line for each of `rows`.
    static func lines(_ rows: [LogTexts]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(rows.count * 80)
        for row in rows {
            for column in 0..<LogTexts.count {
                if column > 0 { bytes.append(UInt8(ascii: ",")) }
                // A number below zero is no formula.
                if LogTexts.numbers.contains(column) {
                    bytes += row[column]
                } else {
                    CSV.append(row[column], to: &bytes)
                }
            }
            bytes.append(UInt8(ascii: "\n"))
        }
        return bytes
    }
}

/// Fields of comma-separated values (RFC 4180).
enum CSV {
    /// Appends a text that others wrote, in UTF-8: quoted where it must be, and harmless to a spreadsheet, which would compute
    /// what begins with `=`, `+`, `-`, `@`, a tab or a carriage return (owasp.org, "CSV Injection").
    static func append(_ text: some Collection<UInt8>, to bytes: inout [UInt8]) {
        let isFormula = text.first.map(beginsFormula) ?? false
        guard isFormula || text.contains(where: isSpecial) else {
            bytes.append(contentsOf: text)
            return
        }
        bytes.append(UInt8(ascii: "\""))
        if isFormula { bytes.append(UInt8(ascii: "'")) }
        for byte in text {
            if byte == UInt8(ascii: "\"") { bytes.append(byte) }
            bytes.append(byte)
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private static func beginsFormula(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "="), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "@"), UInt8(ascii: "\t"),
            UInt8(ascii: "\r"):
            true
        default: false
        }
    }

    private static func isSpecial(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: ","), UInt8(ascii: "\""), UInt8(ascii: "\r"), UInt8(ascii: "\n"): true
        default: false
        }
    }
}
