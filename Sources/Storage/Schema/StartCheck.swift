internal import Domain
package import Logging
package import Postgres

/// The gate of a service that stores events: the schema is current, the database ours, the role strong enough.
package enum StartCheck {
    /// What Laravel's tables lack is told and survived, as events then wait in quarantine instead of being lost at the sender; so
    /// is what the role lacks there, or has too much.
    ///
    /// - Throws: ``Encoding/Refusal`` when the database is not UTF8, ``Blindness`` when our own rows are hidden,
    ///   ``MigrationError`` when the schema is behind, ``Installation/Mismatch`` when the database is not ours,
    ///   ``PrivilegeCheck/Refusal`` when the database role lacks a right on our schema.
    package static func require(_ role: DatabaseRole, _ pool: ConnectionPool, logger: Logger) async throws {
        let (findings, lacks, excess) = try await pool.withConnection { connection in
            try Encoding.require(connection)
            let privileges = try PrivilegeCheck(connection)
            let lacks = try privileges.lacks(connection, for: role)
            if lacks.contains(where: \.grant.isOurs) { throw PrivilegeCheck.Refusal(lacks) }
            let findings = try LaravelDiagnosis.findings(connection, for: role)
            do {
                try Migrator.requireCurrent(connection)
                try Installation.require(connection)
            } catch let error as PostgresError where error.isRowSecurity {
                throw Blindness(findings.filter { $0.effect == .blinding })
            }
            return (findings + (try IDLine.findings(connection)), lacks, try privileges.excess(connection))
        }
        for lack in lacks { logger.error("the database role lacks a right", metadata: ["right": "\(lack)"]) }
        if !excess.isEmpty {
            logger.warning(
                "the database role is stronger than needed; 'codexflow grants' prints one that is not",
                metadata: ["role": "\(excess.joined(separator: ", "))"])
        }
        for finding in findings {
            let metadata: Logger.Metadata = ["finding": "\(finding.text)", "remedy": "\(finding.remedy)"]
            switch finding.effect {
            case .handled: logger.info("laravel's database", metadata: metadata)
            case .risky: logger.warning("laravel's database", metadata: metadata)
            case .failing, .blinding: logger.error("laravel's database", metadata: metadata)
            }
        }
    }

    /// Refused: row-level security hides the rows by which the schema and the installation are known.
    package struct Blindness: Error, CustomStringConvertible {
        private let findings: [LaravelFinding]

        init(_ findings: [LaravelFinding]) {
            self.findings = findings
        }

        package var description: String {
            findings.map { "\($0.text) \($0.remedy)" }.joined(separator: " ")
        }
    }

    /// Whether the database would answer now, and rightly.
    ///
    /// - Returns: What is to be known of Laravel's database all the same, in words for a stranger.
    /// - Throws: `AppError` `.unavailable` with words for a stranger.
    package static func requireReady(_ role: DatabaseRole, _ pool: ConnectionPool) async throws -> [String] {
        let findings: [LaravelFinding]
        do {
            findings = try await pool.withConnection {
                try LaravelDiagnosis.findings($0, for: role) + IDLine.findings($0)
            }
        } catch {
            throw AppError(.unavailable, "The database is unavailable.")
        }
        let blinding = findings.filter { $0.effect == .blinding }
        guard blinding.isEmpty else {
            let reasons = blinding.publicTexts + ["The operator's 'codexflow doctor' says what to do."]
            throw AppError(.unavailable, reasons.joined(separator: " "))
        }
        return findings.publicTexts
    }
}
