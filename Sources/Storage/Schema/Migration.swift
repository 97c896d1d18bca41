import Crypto
import Domain
import Foundation

/// One file of `migrations/`: a numbered, unchangeable step of the schema.
package struct Migration: Sendable, Hashable {
    package let version: Int
    /// `NNNN_what`, the file's name without `.sql`.
    package let name: String
    package let sql: String
    /// SHA-256 of the file, hexadecimal.
    package let checksum: String

    /// Whether the file is one statement that PostgreSQL refuses inside a transaction, such as `CREATE INDEX CONCURRENTLY`.
    package var runsOutsideTransaction: Bool { sql.contains("-- migrate: no-transaction") }

    /// The migrations of a directory in the order of their numbers.
    ///
    /// - Throws: ``MigrationError`` when the directory is missing or empty, a name is not `NNNN_what.sql`, or a number is
    ///   missing or used twice.
    package static func load(from directory: String) throws -> [Migration] {
        guard let entries = try? FileManager.default.contentsOfDirectory(atPath: directory) else {
            throw MigrationError.directoryMissing(directory)
        }
        let migrations = try entries.filter { $0.hasSuffix(".sql") }.sorted().map { file in
            try Migration(file: file, in: directory)
        }
        guard !migrations.isEmpty else { throw MigrationError.directoryMissing(directory) }
        for (index, migration) in migrations.enumerated() where migration.version != index + 1 {
            throw MigrationError.misnumbered(migration.name)
        }
        return migrations
    }

    private init(file: String, in directory: String) throws {
        let name = String(file.dropLast(4))
        guard let version = Int(name.prefix(4)), name.dropFirst(4).hasPrefix("_"),
            let data = FileManager.default.contents(atPath: "\(directory)/\(file)")
        else { throw MigrationError.misnumbered(name) }
        self.version = version
        self.name = name
        sql = String(decoding: data, as: UTF8.self)
        checksum = SHA256.hash(data: data).lowercaseHex
    }
}

/// Why the schema cannot be brought to, or is not at, the version that this build needs.
package enum MigrationError: Error, Hashable, CustomStringConvertible {
    case directoryMissing(String)
    case misnumbered(String)
    case changed(String)
    case unknownVersion(Int)
    case behind(applied: Int, required: Int)

    package var description: String {
        switch self {
        case .directoryMissing(let directory):
            "No migrations in '\(directory)'. Set MIGRATIONS_PATH to the project's migrations folder."
        case .misnumbered(let name):
            "Migration '\(name)' is not named NNNN_what.sql with the next number."
        case .changed(let name):
            "Migration '\(name)' was changed after it was applied. Restore the file and put the change into a new one."
        case .unknownVersion(let version):
            "The database has migration \(version), which this version does not know. Use the newer version."
        case .behind(let applied, let required):
            "The database schema is at \(applied), this version needs \(required). Run 'codexflow migrate'."
        }
    }
}
