import Crypto
import Domain
import HTTPSupport
import Storage

/// Calls as lines, with a last line by which finance can check them: their number, what they cost, and the SHA-256 of
/// every byte before it.
struct LogExport: ExportFormat {
    private static let names = Format.names(of: LogEntry.columns.map(\.name))

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
        return counted(Array((LogEntry.columns.map(\.name).joined(separator: ",") + "\r\n").utf8))
    }

    mutating func add(_ entries: [LogEntry]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(entries.count * 300)
        for entry in entries {
            format.appendLine(entry.values, names: Self.names, to: &bytes)
            cost = cost + (entry.cost ?? .zero)
            laravelCost = laravelCost + entry.laravelCost
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
