import HTTPSupport
import HTTPTypes
import Hummingbird

/// How rows are written.
enum Format: Sendable, Hashable {
    case json, csv, ndjson

    /// The media types beside JSON.
    static let types = ["text/csv", "application/x-ndjson"]

    var contentType: String {
        switch self {
        case .json: "application/json"
        case .csv: "text/csv; charset=utf-8"
        case .ndjson: "application/x-ndjson"
        }
    }

    /// Appends one row: an object whose members are the columns.
    func appendLine(_ row: JSON, to bytes: inout [UInt8]) {
        guard self == .csv else {
            row.append(to: &bytes)
            bytes.append(UInt8(ascii: "\n"))
            return
        }
        appendCells((row.members ?? []).lazy.map(\.value), to: &bytes)
    }

    private func appendCells(_ values: some Sequence<JSON>, to bytes: inout [UInt8]) {
        for (index, value) in values.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            switch value {
            case .null: break
            case .string(let text): CSV.append(text.utf8, to: &bytes)
            case .array(let elements): CSV.append(elements.compactMap(\.text).joined(separator: ";").utf8, to: &bytes)
            default: value.append(to: &bytes)
            }
        }
        bytes += "\r\n".utf8
    }

    /// The whole of `rows`, with a line of names before them in CSV.
    func text(_ columns: [String], _ rows: [JSON]) -> String {
        var bytes: [UInt8] = []
        if self == .csv { bytes += (columns.joined(separator: ",") + "\r\n").utf8 }
        for row in rows { appendLine(row, to: &bytes) }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension APIRequest {
    /// What `Accept` asks for; JSON unless it names another.
    var format: Format {
        let accepted = http.headers[.accept]?.lowercased() ?? ""
        return accepted.contains("text/csv") ? .csv : accepted.contains("application/x-ndjson") ? .ndjson : .json
    }
}
