/// The names of a connection's prepared statements by SQL text; the least recently used makes room.
struct StatementCache {
    private struct Entry {
        var name: String
        var lastUse: Int
    }

    private let capacity: Int
    private var entries: [String: Entry] = [:]
    private var clock = 0
    private var hasLeftovers = false

    init(capacity: Int) {
        self.capacity = capacity
    }

    /// The name of the statement prepared for `sql`.
    mutating func name(for sql: String) -> String? {
        clock += 1
        entries[sql]?.lastUse = clock
        return entries[sql]?.name
    }

    /// A name for `sql`, not yet kept.
    mutating func makeName() -> String {
        clock += 1
        return "s\(clock)"
    }

    /// Keeps `name` for `sql`, now that PostgreSQL knows it.
    mutating func insert(_ name: String, for sql: String) {
        entries[sql] = Entry(name: name, lastUse: clock)
    }

    /// Forgets all statements, of which PostgreSQL still keeps some.
    mutating func removeAll() {
        entries = [:]
        hasLeftovers = true
    }

    /// Whether there are forgotten statements to deallocate; says so once.
    mutating func takeLeftovers() -> Bool {
        defer { hasLeftovers = false }
        return hasLeftovers
    }

    /// Forgets the least recently used statement if there is no room for another; its name, to be deallocated.
    mutating func evict() -> String? {
        guard entries.count >= capacity, let oldest = entries.min(by: { $0.value.lastUse < $1.value.lastUse }) else {
            return nil
        }
        entries[oldest.key] = nil
        return oldest.value.name
    }
}
