internal import Domain
package import Logging

/// Writes each event as exactly one line: time in UTC, level, label, message and `key=value` pairs.
///
/// Text is escaped, so that no client can forge a line or colour a terminal.
package struct LineLogHandler: LogHandler {
    /// The pairs of every line.
    package var metadata: Logger.Metadata = [:]
    /// Pairs that are computed for each line.
    package var metadataProvider: Logger.MetadataProvider?
    /// The least severe level that is written.
    package var logLevel: Logger.Level

    private let label: String
    private let write: @Sendable (String) -> Void

    /// - Parameters:
    ///   - label: The program's name.
    ///   - level: The least severe level that is written.
    ///   - write: Takes one line with its newline.
    package init(label: String, level: Logger.Level, write: @escaping @Sendable (String) -> Void) {
        self.label = label
        self.logLevel = level
        self.write = write
    }

    /// One of the pairs of every line.
    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes `event` as one line.
    package func log(event: LogEvent) {
        // It starts with the largest dictionary, because one that grows is hashed again.
        var pairs = event.metadata ?? [:]
        if let provided = metadataProvider?.get() { pairs.merge(provided) { own, _ in own } }
        pairs.merge(metadata) { own, _ in own }
        if let error = event.error { pairs["error"] = "\(String(reflecting: error))" }
        var line = ""
        line.reserveCapacity(Self.usualLength)
        line += "\(Timestamp.now.rfc3339) \(event.level) \(label): \(event.message.description.visible)"
        for (key, value) in pairs.sorted(by: { $0.key < $1.key }) {
            line += " "
            line += key
            line += "="
            line += value.description.asLogValue
        }
        line += "\n"
        write(line)
    }

    /// Bytes that hold a line of the access log.
    private static let usualLength = 384
}

extension String {
    /// In quotes if a space, a quote or an equals sign would hide where the value ends.
    var asLogValue: String {
        let text = visible
        let needsQuotes = isEmpty || utf8.contains { $0 == 0x20 || $0 == 0x22 || $0 == 0x3D }
        return needsQuotes ? "\"" + text.replacing("\"", with: "\\\"") + "\"" : text
    }
}
