import Foundation
import TestSupport

/// A `webhook-api` with default settings. What it logs goes into a file, as no reader of a pipe may use up processor time.
struct MeasuredService: Sendable {
    let process: ServiceProcess
    let port: Int
    private let log: URL

    /// Starts it and waits until it listens. Throws ``WrongResult``.
    init(_ site: BenchSite, key: String) async throws {
        log = site.folder.appending(path: "webhook-api.log")
        try? FileManager.default.removeItem(at: log)
        process = try ServiceProcess(
            path: "/bin/sh",
            arguments: [
                "-c", #"exec "$0" >"$1" 2>&1"#, site.products.appending(path: "webhook-api").path(), log.path(),
            ],
            environment: ["DATABASE_URL": site.database.url, "LITELLM_WEBHOOK_KEY": key, "WEBHOOK_PORT": "0"])
        do {
            port = try await Self.listeningPort(of: process, log: log)
        } catch {
            process.kill()
            throw error
        }
    }

    /// Sum and number of the transactions' sizes so far. Throws `Command.Failure`.
    func batches() async throws -> (events: Double, transactions: Double) {
        let text = try await Command.run(
            "/usr/bin/env", ["curl", "--silent", "--fail", "http://127.0.0.1:\(port)/metrics"])
        let value = { (name: String) in
            text.split(separator: "\n").first { $0.hasPrefix(name + " ") }?.split(separator: " ").last
                .flatMap { Double($0) } ?? 0
        }
        return (value("ingest_batch_events_sum"), value("ingest_batch_events_count"))
    }

    /// SIGTERM: everything that was taken is stored and answered. Throws ``WrongResult``.
    func stop() async throws {
        process.terminate()
        let code = try await process.waitForExit()
        let errors = lines.filter { $0.contains(" error webhook-api: ") || $0.contains(" critical webhook-api: ") }
        try WrongResult.require(
            code == 0 && errors.isEmpty, "webhook-api ended with \(code): \(errors.prefix(3).joined(separator: "\n"))")
    }

    private var lines: [Substring] {
        ((try? String(contentsOf: log, encoding: .utf8)) ?? "").split(separator: "\n")
    }

    private static func listeningPort(of process: ServiceProcess, log: URL) async throws -> Int {
        let end = ContinuousClock.now + .seconds(30)
        while process.exitCode == nil, ContinuousClock.now < end {
            if let port = (try? String(contentsOf: log, encoding: .utf8))?.listeningPort { return port }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw WrongResult(
            description: "webhook-api did not listen: \((try? String(contentsOf: log, encoding: .utf8)) ?? "")")
    }
}
