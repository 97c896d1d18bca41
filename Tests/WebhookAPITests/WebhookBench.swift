import Bootstrap
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import NIOCore
import Postgres
import Storage
import TestSupport

@testable import WebhookAPI

/// A webhook service in this process, on a database of its own.
struct WebhookBench: Queryable {
    /// The moment after which the captured bodies arrive: 2026-11-23T12:00:00Z, and time goes on from there.
    private static let sinceCaptured: @Sendable () -> Timestamp = {
        let start = ContinuousClock.now
        return { UsageEvent.sampleTime.advanced(by: ContinuousClock.now - start) }
    }()

    static let key = "test-webhook-key-of-more-than-32-characters"

    let client: any TestClientProtocol
    let pool: ConnectionPool

    /// An answer in the words a sender reads.
    struct Answer: Sendable, Equatable, CustomStringConvertible {
        let status: Int
        let body: String
        let headers: HTTPFields

        var description: String { "\(status) \(body)" }
        var json: [String: Any] { (try? JSONSerialization.jsonObject(with: Data(body.utf8))) as? [String: Any] ?? [:] }
        /// The words of `results`, in order: `stored`, `duplicate`, `conflict`, or the reason of a quarantine.
        var verdicts: [String] {
            (json["results"] as? [[String: Any]] ?? []).map { result in
                result["reason"] as? String ?? result["status"] as? String ?? "?"
            }
        }
        var logID: Int? { json["log_id"] as? Int }
    }

    /// Gives `body` a running service.
    static func with<T: Sendable>(
        _ environment: [String: String] = [:], _ body: @escaping @Sendable (WebhookBench) async throws -> T
    ) async throws -> T {
        try await withTestDatabase { database in
            try await with(environment, on: database, body)
        }
    }

    /// Gives `body` a running service on a database that others use too.
    static func with<T: Sendable>(
        _ environment: [String: String] = [:], on database: TestDatabase,
        _ body: @escaping @Sendable (WebhookBench) async throws -> T
    ) async throws -> T {
        let given = ["LITELLM_WEBHOOK_KEY": key, "DATABASE_URL": database.url(as: .webhook), "WEBHOOK_PORT": "0"]
        let settings = try SettingsReader(environment: given.merging(environment) { _, own in own })
            .read(WebhookSettings.init(reading:))
        let service = WebhookService(
            settings: settings, logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
            metrics: PrometheusRegistry(), now: sinceCaptured)
        let pool = ConnectionPool(
            settings.database.connection, limits: settings.database.limits, logger: service.logger)
        let queue = GroupCommit(
            writer: EventWriter(pool: pool, now: sinceCaptured),
            limits: .init(queuedEvents: settings.maxQueuedEvents))
        var application = try service.buildApplication(service.buildLane(queue: queue, pool: pool), pool: pool)
        application.addServices(pool, queue)
        return try await application.test(.live) { client in
            try await body(WebhookBench(client: client, pool: database.pool))
        }
    }

    func post(
        _ body: some Sequence<UInt8>, path: String = "/api/webhook/litellm",
        headers: HTTPFields = [.apiKey: WebhookBench.key]
    ) async throws -> Answer {
        try await send(.post, path, body: Array(body), headers: headers)
    }

    func post(_ body: String, idempotencyKey: String? = nil) async throws -> Answer {
        var headers: HTTPFields = [.apiKey: WebhookBench.key]
        headers[.idempotencyKey] = idempotencyKey
        return try await post(Array(body.utf8), headers: headers)
    }

    func send(
        _ method: HTTPRequest.Method, _ path: String, body: [UInt8] = [], headers: HTTPFields = [:]
    ) async throws -> Answer {
        try await client.execute(uri: path, method: method, headers: headers, body: ByteBuffer(bytes: body)) {
            Answer(status: $0.status.code, body: String(buffer: $0.body), headers: $0.headers)
        }
    }

    /// The users whom the captured bodies and the goldens know.
    func makePeople() async throws {
        let people: [(Int64, String)] = [
            (1, "cf_" + String(repeating: "a1", count: 32)), (2, "cf_second"),
            (42, "cf_a" + String(repeating: "1", count: 63)), (43, "cf_b" + String(repeating: "2", count: 63)),
            (44, "cf_third"), (45, "cf_d" + String(repeating: "5", count: 63)),
        ]
        for (id, key) in people {
            try await execute(
                """
                INSERT INTO users (id, name, email, password, api_key)
                VALUES (\(id), 'Ada', \("user\(id)@example.com"), 'x', \(key))
                """)
        }
        try await execute("SELECT setval('users_id_seq', 100)")
    }

    /// Everything our schema keeps, as one text.
    func everythingKept() async throws -> String {
        try await pool.withConnection { connection in
            let tables = try connection.query(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'metering'"
            ).map { try $0.decode(0, as: String.self) }
            return try tables.map { table in
                let rows = try connection.query("SELECT string_agg(t::text, ' ') FROM metering.\(unsafeSQL: table) t")
                return try rows[0].decode(0, as: String?.self) ?? ""
            }.joined(separator: "\n")
        }
    }
}
