import Storage

extension LogEntries {
    /// The text of the column `name`.
    func value(_ entry: Int, _ name: String) -> String? {
        withExtendedLifetime(self) {
            text(entry, LogColumn.position(of: name)).map { String(decoding: $0, as: UTF8.self) }
        }
    }
}
