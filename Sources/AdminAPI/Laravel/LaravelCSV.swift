import Domain
import Storage

/// Laravel's `usage_export.csv`.
enum LaravelCSV {
    static let header = Array("Date,Model,Input Tokens,Output Tokens,Total Cost,Response Time,Status\n".utf8)

    /// A line for each of `rows`.
    static func lines(_ rows: [LogRow]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(rows.count * 80)
        for row in rows {
            bytes += (row.createdAt?.sqlText ?? "").utf8
            bytes.append(UInt8(ascii: ","))
            CSV.append(row.model, to: &bytes)
            bytes += ",\(row.inputTokens),\(row.outputTokens),\(row.cost),\(row.duration),\(row.status)\n".utf8
        }
        return bytes
    }
}

/// Fields of comma-separated values (RFC 4180).
enum CSV {
    /// Appends a text that others wrote: quoted where it must be, and harmless to a spreadsheet, which would compute what begins
    /// with `=`, `+`, `-`, `@`, a tab or a carriage return (owasp.org, "CSV Injection").
    static func append(_ text: String, to bytes: inout [UInt8]) {
        let isFormula = text.utf8.first.map(formulas.contains) ?? false
        guard isFormula || text.utf8.contains(where: special.contains) else {
            bytes += text.utf8
            return
        }
        bytes.append(UInt8(ascii: "\""))
        if isFormula { bytes.append(UInt8(ascii: "'")) }
        for byte in text.utf8 {
            if byte == UInt8(ascii: "\"") { bytes.append(byte) }
            bytes.append(byte)
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private static let formulas = Array("=+-@\t\r".utf8)
    private static let special = Array(",\"\r\n".utf8)
}
