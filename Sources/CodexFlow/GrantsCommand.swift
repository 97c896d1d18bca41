import ArgumentParser
import Bootstrap
import Postgres
import Storage

/// `codexflow grants`
struct GrantsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "grants",
        abstract: "Prints the SQL that makes a least-privilege role for each program, or runs it.",
        discussion: """
            Pipe it to psql as a superuser, after 'codexflow migrate'; running it again does no harm. \
            Give the new roles passwords by psql's \\password, and the programs their roles in DB_USERNAME. \
            With --apply it runs the SQL itself, as the role of MIGRATE_DATABASE_URL, else of DB_USERNAME, and sets \
            the passwords that WEBHOOK_DB_PASSWORD, WORKER_DB_PASSWORD, ADMIN_DB_PASSWORD, OPERATOR_DB_PASSWORD and \
            OWNER_DB_PASSWORD hold. PostgreSQL gets verifiers of them, and logs no password.
            """)

    @Option(help: "The database; else that of DB_DATABASE or DATABASE_URL.") var database: String?
    @Option(help: "What the names of the roles begin with; else DB_ROLE_PREFIX, else codexflow.") var rolePrefix:
        String?
    @Flag(help: "Run the SQL in the configured database, and set the passwords that the environment holds.")
    var apply = false

    func validate() throws {
        if let rolePrefix, !GrantScript.isUsable(prefix: rolePrefix) {
            throw ValidationError("A prefix is a lowercase word of at most 40 letters, digits and _.")
        }
        if apply, database != nil {
            throw ValidationError("--apply works in the configured database: --database is for the printed SQL.")
        }
    }

    func run() async throws {
        if apply {
            let rolePrefix = rolePrefix
            let passwords = try await Operation.explainingFailure {
                try SettingsReader.load().read { RolePasswords(reading: $0) }
            }
            let outcome: String = try await Operation.run(privileged: true) { operation, connection in
                let script = GrantScript(
                    prefix: rolePrefix ?? operation.rolePrefix, sessions: operation.sessions)
                return try RoleSetup(script: script, passwords: passwords).run(connection)
            }
            return print(outcome)
        }
        let (configured, operation) = try await Operation.explainingFailure {
            try SettingsReader.load().read { settings in
                (
                    DatabaseSettings(reading: settings, applicationName: "codexflow", ownURL: "OPERATOR_DATABASE_URL")
                        .connection.database,
                    Operation(reading: settings)
                )
            }
        }
        Terminal.print(
            own: GrantScript(prefix: rolePrefix ?? operation.rolePrefix, sessions: operation.sessions)
                .text(database: database ?? configured), terminator: "")
    }
}
