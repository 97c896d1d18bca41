import Domain
import Postgres
import Storage

/// Laravel's `usage_export.csv`.
struct LaravelCSV: ExportFormat {
    func begin() -> [UInt8] {
        Array("Date,Model,Input Tokens,Output Tokens,Total Cost,Response Time,Status\n".utf8)
    }

    func add(_ rows: ResultTexts) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(rows.count * 80)
        // The texts are valid as long as the rows are.
        withExtendedLifetime(rows) {
            for row in 0..<rows.count {
                for column in 0..<LaravelLogColumns.count {
                    if column > 0 { bytes.append(UInt8(ascii: ",")) }
                    guard let text = rows.text(row, column) else { continue }
                    // A number below zero is no formula.
                    if LaravelLogColumns.numbers.contains(column) {
                        bytes.append(contentsOf: text)
                    } else {
                        CSV.append(text, to: &bytes)
                    }
                }
                bytes.append(UInt8(ascii: "\n"))
            }
        }
        return bytes
    }

    func end() -> [UInt8] { [] }
}
