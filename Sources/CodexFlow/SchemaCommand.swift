import ArgumentParser
import Bootstrap
import Storage

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
