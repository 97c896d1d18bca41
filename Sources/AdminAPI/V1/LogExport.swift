import Crypto
import Domain
import HTTPSupport
import Storage

/// Logs as lines. The last line has their number, their cost, and the SHA-256 of all bytes before it. Finance checks
/// an export by it.
struct LogExport: ExportFormat {
    private static let costs = (LogColumn.position(of: "cost"), LogColumn.position(of: "ledger_cost"))

    private let format: Format
    private var digest = SHA256()
    private var rows = 0
    private var cost = Money.zero
    private var laravelCost = Money.zero

    init(_ format: Format) {
        self.format = format
    }

    mutating func begin() -> [UInt8] {
        guard format == .csv else { return [] }
        return counted(Array((LogLine.names.joined(separator: ",") + "\r\n").utf8))
    }

    mutating func add(_ entries: LogEntries) -> [UInt8] {
        let (costColumn, laravelColumn) = Self.costs
        var bytes: [UInt8] = []
        bytes.reserveCapacity(entries.count * 600)
        // The texts are valid as long as the entries are.
        withExtendedLifetime(entries) {
            for index in 0..<entries.count {
                switch format {
                case .csv: LogLine.appendRow(entries, index, to: &bytes)
                default:
                    LogLine.appendObject(entries, index, to: &bytes)
                    bytes.append(UInt8(ascii: "\n"))
                }
                cost = cost + (entries.text(index, costColumn).flatMap(Money.init(numeric:)) ?? .zero)
                laravelCost = laravelCost + (entries.text(index, laravelColumn).flatMap(Money.init(numeric:)) ?? .zero)
            }
        }
        rows += entries.count
        return counted(bytes)
    }

    mutating func end() -> [UInt8] {
        var bytes: [UInt8] = []
        let hash = digest.finalize().lowercaseHex
        switch format {
        case .csv: bytes += "#rows=\(rows),cost=\(cost),ledger_cost=\(laravelCost),sha256=\(hash)\r\n".utf8
        default:
            let total: JSON = [
                "rows": .integer(rows), "cost": .string("\(cost)"), "ledger_cost": .string("\(laravelCost)"),
                "sha256": .string(hash),
            ]
            format.appendLine(["total": total], to: &bytes)
        }
        return bytes
    }

    private mutating func counted(_ bytes: [UInt8]) -> [UInt8] {
        digest.update(data: bytes)
        return bytes
    }
}
