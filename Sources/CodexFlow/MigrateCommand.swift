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

    func run() async throws {
        let applied = try await Operation.run(privileged: true) { operation, connection in
            let applied = try Migrator(migrations: Migration.load(from: operation.migrationsPath))
                .migrate(connection, now: operation.now)
            try GrantScript(prefix: operation.rolePrefix).refresh(connection)
            return applied
        }
        for migration in applied { print("applied \(migration.name)") }
        print("schema is at \(Migrator.requiredVersion)")
    }
}
