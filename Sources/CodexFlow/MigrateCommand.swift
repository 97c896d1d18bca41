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
