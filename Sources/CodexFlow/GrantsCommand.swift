import ArgumentParser
import Bootstrap
import Postgres
import Storage

/// `codexflow grants`
struct GrantsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "grants",
        abstract: "Prints the SQL that makes a least-privilege role for each program; changes nothing.",
        discussion: """
            Pipe it to psql as a superuser, after 'codexflow migrate'; running it again does no harm. \
            Give the new roles passwords by psql's \\password, and the programs their roles in DB_USERNAME.
            """)

    @Option(help: "The database; else that of DB_DATABASE or DATABASE_URL.") var database: String?
    @Option(help: "What the names of the roles begin with; else DB_ROLE_PREFIX, else codexflow.") var rolePrefix:
        String?

    func validate() throws {
        if let rolePrefix, !GrantScript.isUsable(prefix: rolePrefix) {
            throw ValidationError("A prefix is a lowercase word of at most 40 letters, digits and _.")
        }
    }

    func run() async throws {
        let (configured, prefix) = try await Operation.explainingFailure {
            try SettingsReader.load().read { settings in
                (
                    DatabaseSettings(reading: settings, applicationName: "codexflow", ownURL: "OPERATOR_DATABASE_URL")
                        .connection.database,
                    Operation(reading: settings).rolePrefix
                )
            }
        }
        print(GrantScript(prefix: rolePrefix ?? prefix).text(database: database ?? configured), terminator: "")
    }
}
