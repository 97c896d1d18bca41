import Crypto
import Domain
import Foundation
import Postgres
import Storage
import TestSupport

/// A running service with default settings. It logs into a file, because the reader of a pipe would take processor
/// time.
struct MeasuredService: Sendable {
    let process: ServiceProcess
    let port: Int
    fileprivate let product: String
    fileprivate let log: URL

    /// Starts a `webhook-api` and waits until it listens.
    ///
    /// - Throws: ``WrongResult`` when it does not listen.
    static func startWebhook(_ site: BenchSite, key: String) async throws -> MeasuredService {
        try await start("webhook-api", site, ["LITELLM_WEBHOOK_KEY": key, "WEBHOOK_PORT": "0"])
    }

    /// Starts the program `product` and waits until it listens.
    ///
    /// - Throws: ``WrongResult`` when it does not listen.
    static func start(
        _ product: String, _ site: BenchSite, _ environment: [String: String]
    ) async throws -> MeasuredService {
        let log = site.folder.appending(path: "\(product).log")
        try? FileManager.default.removeItem(at: log)
        let process = try ServiceProcess.start(
            path: "/bin/sh",
            arguments: [
                "-c", #"exec "$0" >"$1" 2>&1"#, site.products.appending(path: product).path(), log.path(),
            ],
            environment: environment.merging(["DATABASE_URL": site.database.url]) { $1 })
        do {
            let port = try await listeningPort(of: process, product, log: log)
            return MeasuredService(process: process, port: port, product: product, log: log)
        } catch {
            process.kill()
            throw error
        }
    }

    /// Runs `body`, then stops the service. If `body` throws, the service is killed.
    ///
    /// - Throws: ``WrongResult`` when the service reported an error; what `body` throws.
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

    /// The number of stored events, and of transactions, so far.
    ///
    /// - Throws: `Command.Failure` when curl fails.
    func batches() async throws -> (events: Double, transactions: Double) {
        let text = try await Command.run(
            "/usr/bin/env", ["curl", "--silent", "--fail", "http://127.0.0.1:\(port)/metrics"])
        let value = { (name: String) in
            text.split(separator: "\n").first { $0.hasPrefix(name + " ") }?.split(separator: " ").last
                .flatMap { Double($0) } ?? 0
        }
        return (value("ingest_batch_events_sum"), value("ingest_batch_events_count"))
    }

    /// Ends it by SIGTERM, after which it stores and answers what it has accepted.
    ///
    /// - Throws: ``WrongResult`` when it reported an error.
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
        let text = { (try? String(contentsOf: log, encoding: .utf8)) ?? "" }
        try? await eventually("\(product) listens", within: .seconds(30)) {
            process.exitCode != nil || text().listeningPort != nil
        }
        guard let port = text().listeningPort else {
            throw WrongResult(description: "\(product) did not listen: \(text())")
        }
        return port
    }
}

/// A client of `admin-api` with a bearer token, or with the pages' cookie.
struct DashboardClient: Sendable {
    /// The header of each request that says who asks.
    let header: String

    /// Makes a token of `user`, and an administrator of ``BenchUser/administratorID``.
    ///
    /// - Throws: ``PostgresError``.
    static func login(_ site: BenchSite, user: Int64) async throws -> DashboardClient {
        DashboardClient(header: "Authorization: Bearer \(try await token(site, user: user))")
    }

    /// Makes the cookie of `user`, as the form to sign in does: the token, sealed with the password's hash.
    ///
    /// - Throws: ``PostgresError``.
    static func signIn(_ site: BenchSite, user: Int64) async throws -> DashboardClient {
        let token = try await token(site, user: user)
        let hash = try await site.text("(SELECT password FROM public.users WHERE id = \(user))") ?? ""
        let seal = HMAC<SHA256>.authenticationCode(
            for: Data(hash.utf8), using: SymmetricKey(data: Data(token.utf8)))
        return DashboardClient(header: "Cookie: codexflow_session=\(token)~\(seal.lowercaseHex)")
    }

    private static func token(_ site: BenchSite, user: Int64) async throws -> String {
        try await site.execute("UPDATE public.users SET is_admin = true WHERE id = \(Int64(BenchUser.administratorID))")
        return try await site.pool.withConnection { try AccessToken.create(for: user, $0, now: .now) }
    }

    /// The body of an answer.
    ///
    /// - Throws: `Command.Failure` when curl fails.
    func get(_ path: String, of service: MeasuredService, into file: String = "-") async throws -> String {
        try await Command.run(
            "/usr/bin/env",
            [
                "curl", "--silent", "--show-error", "--fail", "--header", header, "--output", file,
                "http://127.0.0.1:\(service.port)\(path)",
            ], within: .seconds(600))
    }

    /// Repeats the request for `seconds`.
    ///
    /// - Throws: `Command.Failure` when wrk fails; ``WrongResult`` when a request failed.
    func load(
        _ path: String, of service: MeasuredService, connections: Int, seconds: Int
    ) async throws -> WrkReport {
        try await WrkReport.ofRun(
            connections: connections, seconds: seconds, script: "wrk-report.lua",
            ["--header", header, "http://127.0.0.1:\(service.port)\(path)"])
    }
}

/// Requests of one template, made by wrk, which takes far less processor time than a client in Swift.
struct WrkLoad: Sendable {
    fileprivate let connections: Int
    fileprivate let files: [String]
    /// Seconds.
    fileprivate let maximumAge: Double

    /// Writes the files of wrk into `site`'s folder. Events in arrays are up to 5 seconds old, as LiteLLM collects
    /// them.
    ///
    /// - Throws: What Foundation throws when a file cannot be written.
    static func write(
        _ template: EventTemplate, events: Int, people: BenchUser.Distribution, connections: Int, key: String,
        site: BenchSite
    ) throws -> WrkLoad {
        try write(
            template.body(of: events), to: "/api/webhook/litellm", people, connections, maximumAge: events > 1 ? 5 : 0,
            key: key, site: site)
    }

    /// Writes the files of wrk that ask about the keys of random users.
    ///
    /// - Throws: What Foundation throws when a file cannot be written.
    static func writeQuestions(connections: Int, key: String, site: BenchSite) throws -> WrkLoad {
        let hole = EventTemplate.Hole.self
        return try write(
            #"\#(hole.nextEvent.mark){"key_hash":"\#(hole.keyHash.mark)"}"#, to: "/api/litellm/authorize", .uniform,
            connections, maximumAge: 0, key: key, site: site)
    }

    private static func write(
        _ body: String, to path: String, _ people: BenchUser.Distribution, _ connections: Int, maximumAge: Double,
        key: String, site: BenchSite
    ) throws -> WrkLoad {
        let request = """
            POST \(path) HTTP/1.1\r
            Host: 127.0.0.1\r
            X-API-Key: \(key)\r
            Content-Type: application/json\r
            Content-Length: \(EventTemplate.length(of: body))\r
            \r
            \(body)
            """
        // A measurement does not use more of them.
        var generator = SystemRandomNumberGenerator()
        let lines = people.draw(50_000, using: &generator).map { "\($0) \(KeyHash(of: BenchUser.key(of: $0)).hex)" }
        let files = ["request", "people"].map { site.folder.appending(path: $0).path() }
        try request.write(toFile: files[0], atomically: false, encoding: .utf8)
        try lines.joined(separator: "\n").write(toFile: files[1], atomically: false, encoding: .utf8)
        return WrkLoad(connections: connections, files: files, maximumAge: maximumAge)
    }

    /// Sends for `seconds` to the service at `port`.
    ///
    /// - Throws: `Command.Failure` when wrk fails; ``WrongResult`` when a request failed.
    func run(port: Int, seconds: Int) async throws -> WrkReport {
        // The first digits of a UUID, which wrk.lua completes for each event.
        let prefix = String(UUID().uuidString.lowercased().prefix(18))
        return try await WrkReport.ofRun(
            connections: connections, seconds: seconds, script: "wrk.lua",
            ["http://127.0.0.1:\(port)", "--"] + files + [prefix, "\(maximumAge)"])
    }
}

/// The result of wrk, which `scripts/wrk-report.lua` prints.
struct WrkReport: Decodable, Equatable {
    let requests: Int
    let seconds: Double
    /// Milliseconds.
    let mean: Double
    let median: Double
    let percentile99: Double
    /// Requests that were not answered by 2xx or 3xx, or not at all.
    let failures: Int

    /// Reads the line of JSON among wrk's own lines.
    ///
    /// - Throws: ``WrongResult`` when it is missing.
    init(_ output: String) throws {
        guard let line = output.split(whereSeparator: \.isNewline).last(where: { $0.hasPrefix("{") }),
            let report = try? JSONDecoder().decode(Self.self, from: Data(line.utf8))
        else { throw WrongResult(description: "wrk did not report: \(output)") }
        self = report
    }

    /// Runs wrk with one thread and these arguments.
    ///
    /// - Throws: `Command.Failure` when wrk fails; ``WrongResult`` when a request failed, or none was answered.
    static func ofRun(connections: Int, seconds: Int, script: String, _ arguments: [String]) async throws -> WrkReport {
        let output = try await Command.run(
            "/usr/bin/env",
            [
                "wrk", "--threads", "1", "--connections", "\(connections)", "--duration", "\(seconds)s", "--timeout",
                "60s", "--script", Checkout.root.appending(path: "scripts/\(script)").path(),
            ] + arguments)
        let report = try WrkReport(output)
        try WrongResult.require(report.failures == 0, "\(report.failures) of wrk's requests failed: \(report)")
        try WrongResult.require(report.requests > 0, "Not one request was answered in \(seconds) s: measure longer.")
        return report
    }
}
