import Bootstrap
import Postgres
import Storage

/// Makes the roles of the programs with their rights and passwords, where the connected role may.
struct RoleSetup: Sendable {
    /// Refused: there are roles to make, and nobody connected who may make them.
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

    /// What was done, in one sentence.
    ///
    /// - Throws: ``NotAllowed``, ``GrantScript/Refusal``, ``PostgresError``.
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
