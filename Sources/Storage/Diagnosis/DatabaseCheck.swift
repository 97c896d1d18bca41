package import Domain
package import Postgres

/// One question of the doctor to the database; it changes nothing.
package struct DatabaseCheck: Sendable {
    /// What checks are told.
    package struct Context: Sendable {
        package var now: @Sendable () -> Timestamp
        package var rolePrefix: String
        package var migrationsPath: String
        /// How long no event may come.
        package var silence: Duration
        /// How long a transaction may hold locks on Laravel's tables.
        package var longTransaction: Duration

        package init(
            now: @escaping @Sendable () -> Timestamp, rolePrefix: String, migrationsPath: String, silence: Duration,
            longTransaction: Duration = .seconds(60)
        ) {
            self.now = now
            self.rolePrefix = rolePrefix
            self.migrationsPath = migrationsPath
            self.silence = silence
            self.longTransaction = longTransaction
        }
    }

    package let name: String
    package let run: @Sendable (Connection, Context) throws -> [Finding]

    private init(_ name: String, _ run: @escaping @Sendable (Connection, Context) throws -> [Finding]) {
        self.name = name
        self.run = run
    }

    /// All of them, in the order in which they are told.
    package static let all: [DatabaseCheck] = [
        DatabaseCheck("database") { connection, _ in try ServerDiagnosis.server(connection) },
        DatabaseCheck("durability") { connection, _ in try ServerDiagnosis.durability(connection) },
        DatabaseCheck("connections") { connection, _ in try ServerDiagnosis.connections(connection) },
        DatabaseCheck("clock") { try ServerDiagnosis.clock($0, now: $1.now) },
        DatabaseCheck("privileges") { try PrivilegeDiagnosis.findings($0, rolePrefix: $1.rolePrefix) },
        DatabaseCheck("search path") { try SearchPathDiagnosis.findings($0, rolePrefix: $1.rolePrefix) },
        DatabaseCheck("schema") { try SchemaDiagnosis.schema($0, migrationsPath: $1.migrationsPath) },
        DatabaseCheck("laravel") { connection, context in
            try LaravelDiagnosis.findings(connection, rolePrefix: context.rolePrefix, connectedAs: .operator)
                .map { $0.finding("laravel") }
                .orOK("laravel", "nothing hides, changes or swallows rows of Laravel's tables")
        },
        DatabaseCheck("settings") { try SettingsDiagnosis.findings($0, rolePrefix: $1.rolePrefix) },
        DatabaseCheck("installation") { connection, _ in try SchemaDiagnosis.installation(connection) },
        DatabaseCheck("ids") { [try IDLine.finding($0, now: $1.now())] },
        DatabaseCheck("partitions") { try SchemaDiagnosis.partitions($0, now: $1.now()) },
        DatabaseCheck("maintenance") { connection, _ in try MaintenanceDiagnosis.findings(connection) },
        DatabaseCheck("transactions") { try MaintenanceDiagnosis.transactions($0, longerThan: $1.longTransaction) },
        DatabaseCheck("counters") { connection, _ in try WorkDiagnosis.counters(connection) },
        DatabaseCheck("sums") { try WorkDiagnosis.sums($0, now: $1.now()) },
        DatabaseCheck("quarantine") { try WorkDiagnosis.quarantine($0, rolePrefix: $1.rolePrefix, now: $1.now()) },
        DatabaseCheck("spools") { try WorkDiagnosis.spools($0, now: $1.now()) },
        DatabaseCheck("last event") { try WorkDiagnosis.lastEvent($0, now: $1.now(), silence: $1.silence) },
    ]
}

/// How far a clock is from ours, as far as an answer that took its time can tell.
package enum ClockSkew {
    /// The other clock's moment is `other` or lies in the `resolution` after it; by ours the question was put at `asked` and
    /// answered at `answered`.
    package static func finding(
        of name: String, other: Timestamp, resolution: Duration = .zero, asked: Timestamp, answered: Timestamp
    ) -> Finding {
        let latest = other.advanced(by: resolution)
        // Some moment between question and answer may have been theirs.
        let seconds =
            Double(max(asked.microseconds - latest.microseconds, other.microseconds - answered.microseconds, 0)) / 1e6
        guard seconds > 2 else { return .ok("clock", "\(name)'s clock and ours agree") }
        let shown = seconds < 600 ? "\(Int(seconds)) s" : "\(Int(seconds / 60)) min"
        let message = "\(name)'s clock is \(shown) \(other < asked ? "behind" : "ahead of") ours"
        let remedy = "Have both hosts keep time by NTP (timedatectl); windows and limits follow these clocks."
        return seconds > 60 ? .failure("clock", message, remedy) : .warning("clock", message, remedy)
    }
}
