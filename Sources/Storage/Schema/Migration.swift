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

    /// Whether the file says what it said when it was applied with `checksum`.
    package func isUnchanged(since checksum: String) -> Bool {
        self.checksum == checksum || Self.reworded[version] == checksum
    }

    /// Former checksums of files of which only comments have changed since, to be ASCII: a comment with other
    /// characters stopped a database in another encoding half-way.
    private static let reworded = [
        1: "580d186e013b86335292d0296b4d67b63d2438fce455c39f1c073a89a37ce1c7",
        3: "1bb3b7a7ef70e8c51b2b866670a8395322a7c7ce46cf4fad28e5134d7e3a88e5",
        10: "5d79303d3ff9fe90fa12c7de7672cd3490765c794623aff42f830814c7536630",
        13: "1d8015904cda81baf71af1e60eebe4c129b5b5c646bfdfe800f8ca423fa863f2",
        14: "d1f8117b2e5eefbf84cfb4ec2e4708382dd0a6974fb6a1dca82b42710581a363",
    ]

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
