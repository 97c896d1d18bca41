import Foundation

/// Where the files of `migrations/` are (`design.md` §8).
package enum MigrationsPath {
    /// What `MIGRATIONS_PATH` configures; else `migrations` in the working directory; else the nearest one above the
    /// executable, also where a search of `PATH` found it.
    package static func resolve(
        configured: String?, executable: String = "/proc/self/exe"
    ) -> String {
        if let configured, !configured.isEmpty { return configured }
        let manager = FileManager.default
        var candidates = ["migrations"]
        var folder = URL(fileURLWithPath: executable).resolvingSymlinksInPath().deletingLastPathComponent()
        while folder.path != "/", candidates.count < 8 {
            candidates.append(folder.appendingPathComponent("migrations").path)
            folder.deleteLastPathComponent()
        }
        return candidates.first { manager.fileExists(atPath: $0) } ?? "migrations"
    }
}
