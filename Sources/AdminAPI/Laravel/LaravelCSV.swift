import Domain
import Storage

/// Laravel's `usage_export.csv`.
struct LaravelCSV: ExportFormat {
    func begin() -> [UInt8] {
        Array("Date,Model,Input Tokens,Output Tokens,Total Cost,Response Time,Status\n".utf8)
    }

    func add(_ rows: [LogTexts]) -> [UInt8] {
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

    func end() -> [UInt8] { [] }
}
