import ArgumentParser
import Bootstrap
import Storage

/// `codexflow migrate`
struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Brings the database to the schema of this version; safe to run twice and at once.",
        discussion: """
            On an empty database it also makes Laravel's tables, exactly as Laravel's own migrations do. \
            The roles that 'codexflow grants' made get their rights on what is new. \
            Uses MIGRATE_DATABASE_URL where it is set.
            """)

    @Flag(help: "Then make the roles of the programs, as 'codexflow grants --apply' does.") var roles = false

    func run() async throws {
        let makesRoles = roles
        // Before anything is changed: a password that cannot be used.
        let passwords = try await Operation.explainingFailure {
            try SettingsReader.load().read { makesRoles ? RolePasswords(reading: $0) : nil }
        }
        let (applied, setup, findings) = try await Operation.run(privileged: true) { operation, connection in
            let applied = try Migrator(migrations: Migration.load(from: operation.migrationsPath))
                .migrate(connection, now: operation.now)
            let script = GrantScript(prefix: operation.rolePrefix, sessions: operation.sessions)
            try script.refresh(connection)
            let setup = try passwords.map { try RoleSetup(script: script, passwords: $0).run(connection) }
            let findings = try LaravelDiagnosis.findings(
                connection, rolePrefix: operation.rolePrefix, connectedAs: .owner)
            return (applied, setup, findings)
        }
        for migration in applied { print("applied \(migration.name)") }
        print("schema is at \(Migrator.requiredVersion)")
        if let setup { print(setup) }
        for finding in findings {
            let mark = finding.effect == .handled ? "note" : "warning"
            print("\(mark): \(finding.text)\(finding.effect == .handled ? "" : " \(finding.remedy)")")
        }
    }
}

/// `codexflow schema`
struct SchemaCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema",
        abstract: "Shows what is applied, what is missing and what Laravel's tables lack; exit code 1 when behind.")

    func run() async throws {
        let (pending, findings) = try await Operation.run { operation, connection in
            let migrator = try Migrator(migrations: Migration.load(from: operation.migrationsPath))
            return (try migrator.pendingMigrations(connection), try SchemaCheck.findings(connection))
        }
        for migration in pending { print("missing migration \(migration.name)") }
        for finding in findings { print("laravel: \(finding)") }
        guard pending.isEmpty else {
            print("Run 'codexflow migrate'.")
            throw ExitCode(1)
        }
        print("schema is at \(Migrator.requiredVersion)")
        if !findings.isEmpty { throw ExitCode(1) }
    }
}

/// `codexflow adopt`
struct AdoptCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adopt",
        abstract: "Accepts Laravel's present tables as those this installation belongs to.",
        discussion: """
            Needed once after a restore or `php artisan migrate:fresh`: the services refuse to attribute events while \
            the tables are not those they know. History is kept where the same people and rows are there.
            """)

    @Flag(help: "Drop our events, counters, keys and quarantine, which belong to other people and rows.")
    var discardHistory = false

    func run() async throws {
        let discardingHistory = discardHistory
        let adoption = try await Operation.run(privileged: true) { operation, connection in
            try Installation.adopt(connection, discardingHistory: discardingHistory, now: operation.now)
        }
        switch adoption {
        case .unchanged: print("nothing had changed")
        case .sameIDs: print("adopted; history kept")
        case .discardedHistory: print("adopted; history discarded")
        }
    }
}
