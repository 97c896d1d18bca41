internal import Domain
package import Logging
package import Postgres

/// The gate of a service that stores events: the schema is current, the database ours, the role strong enough.
package enum StartCheck {
    /// What Laravel's tables lack is told and survived, as events then wait in quarantine instead of being lost at the sender; so
    /// is what the role lacks there, or has too much.
    ///
    /// - Throws: ``MigrationError`` when the schema is behind, ``Installation/Mismatch`` when the database is not ours,
    ///   ``PrivilegeCheck/Refusal`` when the database role lacks a right on our schema.
    package static func require(_ role: DatabaseRole, _ pool: ConnectionPool, logger: Logger) async throws {
        let (findings, lacks, excess) = try await pool.withConnection { connection in
            let privileges = try PrivilegeCheck(connection)
            let lacks = try privileges.lacks(connection, for: role)
            if lacks.contains(where: \.grant.isOurs) { throw PrivilegeCheck.Refusal(lacks) }
            try Migrator.requireCurrent(connection)
            try Installation.require(connection)
            return (try SchemaCheck.findings(connection), lacks, try privileges.excess(connection))
        }
        for lack in lacks { logger.error("the database role lacks a right", metadata: ["right": "\(lack)"]) }
        if !excess.isEmpty {
            logger.warning(
                "the database role is stronger than needed; 'codexflow grants' prints one that is not",
                metadata: ["role": "\(excess.joined(separator: ", "))"])
        }
        for finding in findings { logger.error("laravel's schema", metadata: ["finding": "\(finding)"]) }
    }

    /// Whether the database would answer now.
    ///
    /// - Throws: `AppError` `.unavailable` with words for a stranger.
    package static func requireReady(_ pool: ConnectionPool) async throws {
        do {
            _ = try await pool.withConnection { try $0.query("SELECT 1") }
        } catch {
            throw AppError(.unavailable, "The database is unavailable.")
        }
    }
}
