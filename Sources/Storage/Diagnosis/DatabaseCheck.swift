package import Domain
package import Postgres

/// What a check of the doctor found about one subject.
package struct Finding: Sendable, Hashable, Codable {
    /// How bad it is. The worst level of a report decides the exit code.
    package enum Level: String, Sendable, Codable, CaseIterable, Comparable {
        case ok, warning, failure

        package static func < (left: Level, right: Level) -> Bool {
            (allCases.firstIndex(of: left) ?? 0) < (allCases.firstIndex(of: right) ?? 0)
        }
    }

    /// How bad it is.
    package let level: Level
    /// The check's name.
    package let subject: String
    /// One sentence that describes it, without secrets.
    package let message: String
    /// What the operator should do; `nil` where nothing is to be done.
    package let remedy: String?

    private init(_ level: Level, _ subject: String, _ message: String, _ remedy: String?) {
        self.level = level
        self.subject = subject
        self.message = message
        self.remedy = remedy
    }

    /// A subject that needs no action.
    package static func ok(_ subject: String, _ message: String) -> Finding {
        Finding(.ok, subject, message, nil)
    }

    /// A subject that an operator should look at.
    package static func warning(_ subject: String, _ message: String, _ remedy: String) -> Finding {
        Finding(.warning, subject, message, remedy)
    }

    /// A subject that keeps a program from its work.
    package static func failure(_ subject: String, _ message: String, _ remedy: String) -> Finding {
        Finding(.failure, subject, message, remedy)
    }
}

extension [Finding] {
    /// The findings themselves; where there are none, a finding that all is well.
    func orOK(_ subject: String, _ message: String) -> [Finding] {
        isEmpty ? [.ok(subject, message)] : self
    }
}

/// A check of the doctor that reads the database and changes nothing.
package struct DatabaseCheck: Sendable {
    /// The settings of the checks.
    package struct Context: Sendable {
        /// Our clock.
        package var now: @Sendable () -> Timestamp
        /// What the names of our roles begin with.
        package var rolePrefix: String
        /// The folder of the migrations.
        package var migrationsPath: String
        /// The time without an event after which a check warns.
        package var silence: Duration
        /// The time for which a transaction may hold locks on Laravel's tables.
        package var longTransaction: Duration

        /// A context with these settings.
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

    /// The name of the check.
    package let name: String
    /// Runs the check.
    package let run: @Sendable (Connection, Context) throws -> [Finding]

    private init(_ name: String, _ run: @escaping @Sendable (Connection, Context) throws -> [Finding]) {
        self.name = name
        self.run = run
    }

    /// All checks, in the order of the report.
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

/// The difference of another clock from ours, as far as the time that a question took lets it be known.
package enum ClockSkew {
    /// The other clock showed `other`, or up to `resolution` more. By our clock the question was put at `asked` and
    /// answered at `answered`.
    package static func finding(
        of name: String, other: Timestamp, resolution: Duration = .zero, asked: Timestamp, answered: Timestamp
    ) -> Finding {
        let latest = other.advanced(by: resolution)
        // The other clock was read at some moment between question and answer.
        let seconds =
            Double(max(asked.microseconds - latest.microseconds, other.microseconds - answered.microseconds, 0)) / 1e6
        guard seconds > 2 else { return .ok("clock", "\(name)'s clock and ours agree") }
        let shown = seconds < 600 ? "\(Int(seconds)) s" : "\(Int(seconds / 60)) min"
        let message =
            other < asked
            ? "\(name)'s clock is \(shown) behind ours" : "\(name)'s clock is \(shown) ahead of ours"
        let remedy = "Have both hosts keep time by NTP (timedatectl); windows and limits follow these clocks."
        return seconds > 60 ? .failure("clock", message, remedy) : .warning("clock", message, remedy)
    }
}

/// Checks whether this version works with our schema and Laravel's tables.
enum SchemaDiagnosis {
    static func schema(_ connection: Connection, migrationsPath: String) throws -> [Finding] {
        do {
            let migrator = try Migrator(migrations: Migration.load(from: migrationsPath))
            let pending = try migrator.pendingMigrations(connection).map {
                Finding.failure("schema", "migration \($0.name) is missing", "Run 'codexflow migrate'.")
            }
            return pending.orOK("schema", "at \(Migrator.requiredVersion)")
        } catch let error as MigrationError {
            return [.failure("schema", "the migrations do not fit", error.description)]
        }
    }

    static func installation(_ connection: Connection) throws -> [Finding] {
        do {
            try Installation.require(connection)
            return [.ok("installation", "Laravel's tables are those this installation belongs to")]
        } catch let error as Installation.Mismatch {
            return [.failure("installation", "Laravel's tables are not those we know", error.description)]
        }
    }

    /// Whether the partitions of this month and the next exist, and whether events are in the default partition, from
    /// which no retention drops them.
    static func partitions(_ connection: Connection, now: Timestamp) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT to_char(m.month, 'YYYY-MM'), m.number = 0
            FROM (SELECT g.number, date_trunc('month', \(now) AT TIME ZONE 'UTC') + g.number * interval '1 month'
                  FROM generate_series(0, 1) AS g (number)) AS m (number, month)
            WHERE NOT EXISTS (
                SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'metering.events'::regclass
                  AND c.relname = 'events_' || to_char(m.month, 'YYYY_MM'))
            ORDER BY m.number
            """)
        var findings = try rows.map { row in
            let (month, isPresent) = try row.decode(String.self, Bool.self)
            let message = "the partition of \(month) is missing: its events go to the default one"
            return isPresent
                ? Finding.failure("partitions", message, "Run 'codexflow migrate'.")
                : .warning("partitions", message, "Run 'codexflow migrate' before the month begins.")
        }
        let strays = try connection.query(
            "SELECT count(*) FROM (SELECT FROM metering.events_default LIMIT 1001) d")
        let count = try strays[0].decode(0, as: Int.self)
        if count > 0 {
            findings.append(
                .warning(
                    "partitions", "\(count > 1000 ? "over 1000" : "\(count)") events lie in the default partition",
                    "Run 'codexflow migrate' once a month; months that lie there already stay there."))
        }
        return findings.orOK("partitions", "this month and the next have theirs, and the default one is empty")
    }
}
