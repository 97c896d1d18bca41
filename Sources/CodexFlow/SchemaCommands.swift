import ArgumentParser
import Bootstrap
import Storage

/// `codexflow migrate`
struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Applies the migrations of this version. It may run twice, and in several places at once.",
        discussion: """
            An empty database also gets Laravel's tables, exactly as Laravel's own migrations make them. The roles \
            that 'codexflow grants' made get their rights on new tables. The command connects by \
            MIGRATE_DATABASE_URL where that is set.
            """)

    @Flag(help: "Make the roles of the programs too, as 'codexflow grants --apply' does.") var roles = false

    func run() async throws {
        let makesRoles = roles
        // A password that cannot be used is refused before anything changes.
        let passwords = try await OperatorContext.explainingFailure {
            try SettingsReader.load().read { makesRoles ? RolePasswords(reading: $0) : nil }
        }
        let (applied, setup, findings) = try await OperatorContext.run(privileged: true) { context, connection in
            let applied = try Migrator(migrations: Migration.load(from: context.migrationsPath))
                .migrate(connection, now: context.now)
            let script = GrantScript(prefix: context.rolePrefix, sessions: context.sessions)
            try script.refresh(connection)
            let setup = try passwords.map { try RoleSetup(script: script, passwords: $0).run(connection) }
            let findings = try LaravelDiagnosis.findings(
                connection, rolePrefix: context.rolePrefix, connectedAs: .owner)
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
        abstract: "Lists missing migrations, and what Laravel's tables lack. The exit code is then 1.")

    func run() async throws {
        let (pending, findings) = try await OperatorContext.run { context, connection in
            let migrator = try Migrator(migrations: Migration.load(from: context.migrationsPath))
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
        abstract: "Accepts that Laravel's tables have been replaced.",
        discussion: """
            Run it once after a restore or after 'php artisan migrate:fresh'. Until then the services attribute no \
            event, because a user's id may belong to another person now. The history is kept where the same users \
            and rows are there.
            """)

    @Flag(help: "Delete events, counters, keys and quarantine, which belong to other users and rows.")
    var discardHistory = false

    func run() async throws {
        let discardingHistory = discardHistory
        let adoption = try await OperatorContext.run(privileged: true) { context, connection in
            try Installation.adopt(connection, discardingHistory: discardingHistory, now: context.now)
        }
        switch adoption {
        case .unchanged: print("nothing had changed")
        case .sameIDs: print("adopted; history kept")
        case .discardedHistory: print("adopted; history discarded")
        }
    }
}
