import ArgumentParser
import Bootstrap
import Postgres
import Storage

/// `codexflow grants`
struct GrantsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "grants",
        abstract: "Prints or runs the SQL that gives each program a role with the rights that it needs.",
        discussion: """
            Run 'codexflow migrate' first. Then pipe the output to psql as a superuser; it may run again. Give the \
            new roles passwords by psql's \\password, and name each program's role in its DB_USERNAME.

            With --apply the command runs the SQL itself, by MIGRATE_DATABASE_URL where that is set. It also sets the \
            passwords of WEBHOOK_DB_PASSWORD, WORKER_DB_PASSWORD, ADMIN_DB_PASSWORD, OPERATOR_DB_PASSWORD and \
            OWNER_DB_PASSWORD. PostgreSQL receives verifiers, and logs no password.
            """)

    @Option(help: "The database (default: the configured one).") var database: String?
    @Option(help: "What the names of the roles begin with (default: DB_ROLE_PREFIX).") var rolePrefix: String?
    @Flag(help: "Run the SQL in the configured database, and set the passwords of the environment.")
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
            let passwords = try await OperatorContext.explainingFailure {
                try SettingsReader.load().read { RolePasswords(reading: $0) }
            }
            let outcome: String = try await OperatorContext.run(privileged: true) { context, connection in
                let script = GrantScript(
                    prefix: rolePrefix ?? context.rolePrefix, sessions: context.sessions)
                return try RoleSetup(script: script, passwords: passwords).run(connection)
            }
            return print(outcome)
        }
        let (configured, context) = try await OperatorContext.explainingFailure {
            try SettingsReader.load().read { settings in
                (
                    DatabaseSettings(reading: settings, applicationName: "codexflow", ownURL: OperatorContext.ownURL)
                        .connection.database,
                    OperatorContext(reading: settings)
                )
            }
        }
        Terminal.print(
            own: GrantScript(prefix: rolePrefix ?? context.rolePrefix, sessions: context.sessions)
                .text(database: database ?? configured), terminator: "")
    }
}

/// The passwords that the roles of `codexflow grants` get. Each is a setting, such as `WEBHOOK_DB_PASSWORD`.
struct RolePasswords: Sendable {
    private static let shortest = 16

    private let secrets: [DatabaseRole: Secret]

    static let table = SettingsTable(
        DatabaseRole.allCases.map { role in
            Setting(
                variable(of: role), .secret,
                "The password that 'codexflow grants --apply' sets for the \(role.rawValue) role, at least "
                    + "\(shortest) characters.")
        })

    /// Reads ``table``. A password that is short, or that two roles share, is a problem of `settings`.
    init(reading settings: SettingsReader) {
        let owners = DatabaseSettings.table()["DB_PASSWORD"]
        var names: [Secret: String] = [:]
        if let password = settings.secret(owners) { names[password] = owners.name }
        var secrets: [DatabaseRole: Secret] = [:]
        for role in DatabaseRole.allCases {
            let name = Self.variable(of: role)
            guard let secret = settings.secret(Self.table[name]) else { continue }
            let length = secret.reveal().count
            if length < Self.shortest {
                settings.reject(name, "has \(length) characters; at least \(Self.shortest) are needed")
            } else if let other = names[secret] {
                settings.reject(name, "is the same as \(other); make each by: openssl rand -hex 32")
            }
            names[secret] = name
            secrets[role] = secret
        }
        self.secrets = secrets
    }

    static func variable(of role: DatabaseRole) -> String { "\(role.rawValue.uppercased())_DB_PASSWORD" }

    /// The passwords, for the one place that gives them to PostgreSQL.
    func reveal() -> [DatabaseRole: String] { secrets.mapValues { $0.reveal() } }
}

/// Makes the roles of the programs, with their rights and passwords, if the connected role may do so.
struct RoleSetup: Sendable {
    /// There are roles to make, and the connected role may not make roles.
    struct NotAllowed: Error, CustomStringConvertible {
        let user: String
        let missing: [String]

        var description: String {
            "The role \(user) may not make the roles \(missing.joined(separator: ", ")). Run the output of "
                + "'codexflow grants' with psql as a superuser and give each role its password, or name such a role in "
                + "MIGRATE_DATABASE_URL."
        }
    }

    let script: GrantScript
    let passwords: RolePasswords

    /// Makes the roles and returns what was done, in one sentence.
    ///
    /// - Throws: ``NotAllowed`` when a role is missing and may not be made; ``GrantScript/Refusal``; ``PostgresError``.
    func run(_ connection: Connection) throws -> String {
        let row = try connection.query(
            "SELECT r.rolname::text, r.rolsuper OR r.rolcreaterole FROM pg_roles r WHERE r.rolname = current_user")[0]
        let (user, makesRoles) = try row.decode(String.self, Bool.self)
        if makesRoles {
            let passwords = passwords.reveal()
            try script.apply(connection, passwords: passwords)
            let names = passwords.keys.map(script.name).sorted()
            return "the roles have their rights"
                + (names.isEmpty ? "" : "; passwords set: \(names.joined(separator: ", "))")
        }
        let missing = try script.missingRoles(connection)
        guard missing.isEmpty else { throw NotAllowed(user: user, missing: missing.map(script.name)) }
        return "the roles are there; \(user) may not make roles: their passwords were left as they are"
    }
}
