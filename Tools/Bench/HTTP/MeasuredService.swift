import Foundation
import TestSupport

/// A service with default settings. What it logs goes into a file, as no reader of a pipe may use up processor time.
struct MeasuredService: Sendable {
    let process: ServiceProcess
    let port: Int
    private let product: String
    private let log: URL

    /// Starts a `webhook-api` and waits until it listens. Throws ``WrongResult``.
    init(_ site: BenchSite, key: String) async throws {
        try await self.init("webhook-api", site, ["LITELLM_WEBHOOK_KEY": key, "WEBHOOK_PORT": "0"])
    }

    /// Starts the program `product` and waits until it listens. Throws ``WrongResult``.
    init(_ product: String, _ site: BenchSite, _ environment: [String: String]) async throws {
        self.product = product
        log = site.folder.appending(path: "\(product).log")
        try? FileManager.default.removeItem(at: log)
        process = try ServiceProcess(
            path: "/bin/sh",
            arguments: [
                "-c", #"exec "$0" >"$1" 2>&1"#, site.products.appending(path: product).path(), log.path(),
            ],
            environment: environment.merging(["DATABASE_URL": site.database.url]) { $1 })
        do {
            port = try await Self.listeningPort(of: process, product, log: log)
        } catch {
            process.kill()
            throw error
        }
    }

    /// What `body` returns; the service is stopped after it, or killed where it throws.
    func whileRunning<T>(_ body: (MeasuredService) async throws -> T) async throws -> T {
        let result: T
        do {
            result = try await body(self)
        } catch {
            process.kill()
            try await process.waitForExit()
            throw error
        }
        try await stop()
        return result
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
    private func stop() async throws {
        process.terminate()
        let code = try await process.waitForExit()
        let errors = lines.filter { $0.contains(" error \(product): ") || $0.contains(" critical \(product): ") }
        try WrongResult.require(
            code == 0 && errors.isEmpty, "\(product) ended with \(code): \(errors.prefix(3).joined(separator: "\n"))")
    }

    private var lines: [Substring] {
        ((try? String(contentsOf: log, encoding: .utf8)) ?? "").split(separator: "\n")
    }

    private static func listeningPort(of process: ServiceProcess, _ product: String, log: URL) async throws -> Int {
        let end = ContinuousClock.now + .seconds(30)
        while process.exitCode == nil, ContinuousClock.now < end {
            if let port = (try? String(contentsOf: log, encoding: .utf8))?.listeningPort { return port }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw WrongResult(
            description: "\(product) did not listen: \((try? String(contentsOf: log, encoding: .utf8)) ?? "")")
    }
}
