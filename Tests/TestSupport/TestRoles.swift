internal import Crypto
internal import Domain
internal import Foundation
package import Postgres
package import Storage

/// The least-privilege roles of the test server: the code under test connects as its program's, the test itself as
/// superuser.
package enum TestRoles {
    package static let prefix = "codexflow"

    /// Makes the roles with their rights on `database`, which is migrated, and gives them passwords. Throws
    /// `PostgresError`.
    package static func grant(on database: ConnectionConfiguration) async throws {
        try await withPool(database) { pool in
            try await pool.withConnection { connection in
                try connection.executeScript(GrantScript(prefix: prefix).text(database: database.database))
                for role in DatabaseRole.allCases {
                    let configuration = database.role(role)
                    try connection.executeScript(
                        "ALTER ROLE \(configuration.user) PASSWORD '\(configuration.password ?? "")'")
                }
            }
        }
    }
}

extension ConnectionConfiguration {
    /// The same database as `role`, whose password is made of the superuser's: every process of a test run knows it.
    package func role(_ role: DatabaseRole) -> ConnectionConfiguration {
        var other = self
        other.searchPath = ConnectionConfiguration.pinnedSearchPath
        other.user = role.name(prefix: TestRoles.prefix)
        other.password = SHA256.hash(data: Data("\(role.rawValue) \(password ?? "")".utf8)).lowercaseHex
        return other
    }
}
