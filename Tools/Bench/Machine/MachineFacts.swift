import Foundation
import Postgres
import TestSupport

/// On what a run was made.
struct MachineFacts: Codable, Sendable {
    let date: String
    let commit: String
    let processor: String
    let cores: Int
    let memory: Int
    let postgres: String
    /// Settings of the server that are not PostgreSQL's defaults, but for addresses and files.
    let settings: [String: String]
    /// Rows that were there before.
    let rows: Int
    /// Of one measurement.
    let seconds: Int
    /// What each table takes with its indexes, for each of the rows that were there before.
    let bytesPerEvent: [String: Double]

    /// Throws `PostgresError`.
    init(_ site: BenchSite, rows: Int, seconds: Int) async throws {
        self.rows = rows
        self.seconds = seconds
        bytesPerEvent = try await Self.bytesPerEvent(site, rows: rows)
        date = Date().formatted(.iso8601)
        commit = await Self.commit
        let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.split(separator: "\n") ?? []
        let model = lines.first { $0.hasPrefix("model name") }?.split(separator: ":").last
        processor = model.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown"
        cores = ProcessInfo.processInfo.activeProcessorCount
        memory = Int(ProcessInfo.processInfo.physicalMemory)
        postgres = try await site.text("current_setting('server_version')") ?? ""
        settings = try await site.pool.withConnection { connection in
            let rows = try connection.query(
                """
                SELECT name, current_setting(name) FROM pg_settings
                WHERE setting IS DISTINCT FROM boot_val AND source NOT IN ('default', 'override', 'client', 'session')
                  AND name !~ '^lc_|_file$|_directories$|^port$|^listen_addresses$'
                ORDER BY name
                """)
            return Dictionary(uniqueKeysWithValues: try rows.map { try $0.decode(String.self, String.self) })
        }
    }

    /// A partitioned table is its partitions; any other has no tree of them.
    private static func bytesPerEvent(_ site: BenchSite, rows: Int) async throws -> [String: Double] {
        try await site.pool.withConnection { connection in
            let sizes = try connection.query(
                """
                SELECT t.name,
                       coalesce((SELECT sum(pg_total_relation_size(p.relid))::bigint
                                 FROM pg_partition_tree(t.name::regclass) p),
                                pg_total_relation_size(t.name::regclass))
                FROM unnest('{metering.events, metering.usage_quarters, metering.usage_days,
                              metering.usage_spans}'::text[]) AS t (name)
                """)
            return Dictionary(
                uniqueKeysWithValues: try sizes.map { row in
                    let (name, size) = try row.decode(String.self, Int.self)
                    return (name, Double(size) / Double(rows))
                })
        }
    }

    /// The commit that was measured, with `+` where files differ from it.
    private static var commit: String {
        get async {
            let git = { (arguments: [String]) in
                try await Command.run("/usr/bin/env", ["git", "-C", Checkout.root.path()] + arguments)
            }
            guard let hash = try? await git(["rev-parse", "--short", "HEAD"]) else { return "unknown" }
            let changes = (try? await git(["status", "--porcelain"])) ?? ""
            return changes.isEmpty ? hash : hash + "+"
        }
    }
}
