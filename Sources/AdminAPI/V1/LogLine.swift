import Domain
import HTTPSupport
import Postgres
import Storage

/// Writes a log as a JSON object, or as a line of CSV.
///
/// It copies the texts that PostgreSQL sent. Decoding every value of an export took three times as much CPU.
enum LogLine {
    /// The names of the columns.
    static let names = LogColumn.all.map(\.name)
    /// The bytes before each value of an object.
    private static let keys = names.enumerated().map { index, name in
        var bytes = [UInt8(ascii: index == 0 ? "{" : ",")]
        JSON.string(name).append(to: &bytes)
        return bytes + [UInt8(ascii: ":")]
    }
    private static let kinds = LogColumn.all.map { ($0.kind, $0.isOptional) }

    /// Appends the log at `index` as a JSON object.
    static func appendObject(_ entries: LogEntries, _ index: Int, to bytes: inout [UInt8]) {
        let (keys, kinds) = (keys, kinds)
        for column in 0..<kinds.count {
            bytes += keys[column]
            let (kind, isOptional) = kinds[column]
            if kind == .flags {
                appendList(flags(entries, index, column), to: &bytes)
                continue
            }
            guard let text = entries.text(index, column) else {
                bytes += (isOptional ? "null" : kind == .money ? "\"0\"" : "[]").utf8
                continue
            }
            switch kind {
            case .integer: bytes.append(contentsOf: text)
            case .money: quote(&bytes) { appendMoney(text, to: &$0) }
            case .time: quote(&bytes) { appendTime(text, to: &$0) }
            case .text: JSON.append(text, to: &bytes)
            case .boolean: bytes += bool(text)
            case .texts, .flags: appendList(texts(text), to: &bytes)
            }
        }
        bytes.append(UInt8(ascii: "}"))
    }

    /// Appends the log at `index` as a line of CSV.
    static func appendRow(_ entries: LogEntries, _ index: Int, to bytes: inout [UInt8]) {
        let kinds = kinds
        for column in 0..<kinds.count {
            if column > 0 { bytes.append(UInt8(ascii: ",")) }
            let (kind, isOptional) = kinds[column]
            if kind == .flags {
                CSV.append(flags(entries, index, column).joined(separator: ";").utf8, to: &bytes)
                continue
            }
            guard let text = entries.text(index, column) else {
                if !isOptional, kind == .money { bytes.append(UInt8(ascii: "0")) }
                continue
            }
            switch kind {
            case .integer: bytes.append(contentsOf: text)
            case .money: appendMoney(text, to: &bytes)
            case .time: appendTime(text, to: &bytes)
            case .text: CSV.append(text, to: &bytes)
            case .boolean: bytes += bool(text)
            case .texts, .flags: CSV.append(texts(text).joined(separator: ";").utf8, to: &bytes)
            }
        }
        bytes += "\r\n".utf8
    }

    /// The flags of the event, and those of values that another writer wrote.
    private static func flags(_ entries: LogEntries, _ index: Int, _ column: Int) -> [String] {
        let flags = entries.text(index, column).map(texts) ?? []
        return flags + entries.implausibleValues(index).map(\.rawValue).filter { !flags.contains($0) }
    }

    /// The elements of an array, which PostgreSQL writes as `{…}`.
    private static func texts(_ text: UnsafeBufferPointer<UInt8>) -> [String] {
        text.count == 2 ? [] : [String](postgresText: ArraySlice(text)) ?? []
    }

    private static func appendList(_ texts: [String], to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "["))
        for (index, text) in texts.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            JSON.string(text).append(to: &bytes)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    private static func quote(_ bytes: inout [UInt8], _ body: (inout [UInt8]) -> Void) {
        bytes.append(UInt8(ascii: "\""))
        body(&bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    private static func bool(_ text: UnsafeBufferPointer<UInt8>) -> String.UTF8View {
        text.first == UInt8(ascii: "t") ? "true".utf8 : "false".utf8
    }

    /// Appends USD as ``Money`` writes them, without trailing zeros.
    private static func appendMoney(_ text: UnsafeBufferPointer<UInt8>, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: text)
        guard text.contains(UInt8(ascii: ".")) else { return }
        while bytes.last == UInt8(ascii: "0") { bytes.removeLast() }
        if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
    }

    /// Appends a time as ``Timestamp/rfc3339`` writes it, from `yyyy-MM-dd HH:mm:ss` with up to six decimals.
    private static func appendTime(_ text: UnsafeBufferPointer<UInt8>, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: text.prefix(10))
        bytes.append(UInt8(ascii: "T"))
        bytes.append(contentsOf: text.dropFirst(11).prefix(8))
        bytes.append(UInt8(ascii: "."))
        let decimals = text.dropFirst(20).prefix(3)
        bytes.append(contentsOf: decimals)
        for _ in decimals.count..<3 { bytes.append(UInt8(ascii: "0")) }
        bytes.append(UInt8(ascii: "Z"))
    }
}

extension LogColumn {
    /// The JSON Schema of its values.
    var schema: JSON {
        let schema =
            switch kind {
            case .integer: Schema.integer
            case .money: Schema.money
            case .text: Schema.string
            case .time: Schema.time
            case .boolean: Schema.boolean
            case .texts: Schema.list(Schema.string)
            case .flags: Schema.flags
            }
        return isOptional ? Schema.optional(schema) : schema
    }
}

extension Schema {
    /// What is special about a call, such as `usage_estimated`.
    static let flag = choice(UsageEvent.Flag.allCases.map(\.rawValue)).named("LogFlag")
    static let flags = list(flag)
    static let log = object(of: LogColumn.all.map { ($0.name, $0.schema) }).named("Log")
}
