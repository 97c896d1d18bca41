import Domain
import Foundation
import Postgres
import Storage
import TestSupport

/// What LiteLLM asks before it lets a call through: `POST /api/litellm/authorize` for the keys of random users.
struct AuthorizeBenchmark: Benchmark {
    let name: String
    private let connections: Int

    var summary: String {
        "POST /api/litellm/authorize, \(connections == 1 ? "one connection" : "\(connections) connections")"
    }

    init(_ name: String, connections: Int) {
        self.name = name
        self.connections = connections
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let key = (0..<32).map { _ in UInt8.random(in: .min ... .max) }.lowercaseHex
        let load = try WrkLoad.writeQuestions(connections: connections, key: key, site: site)
        return try await MeasuredService.startWebhook(site, key: key).whileRunning { service in
            try await requireTruth(service, key, site)
            _ = try await load.run(port: service.port, seconds: 1)
            let meter = CPUMeter(service: service.process.processID, postmaster: site.postmaster)
            let report = try await load.run(port: service.port, seconds: seconds)
            let measurement = Measurement(report, cpu: meter.reading, of: service)
            try await requireTruth(service, key, site)
            return measurement
        }
    }

    /// The parts of an answer that are compared.
    private struct Answer: Decodable {
        struct Window: Decodable {
            struct Amount: Decodable { let used: Int }
            let period: String
            let requests: Amount
        }

        let user: Int
        let windows: [Window]
        enum CodingKeys: String, CodingKey {
            case user = "user_id"
            case windows
        }
    }

    /// The answer about the heavy user's key names the user and what the counters say of this month.
    private func requireTruth(_ service: MeasuredService, _ key: String, _ site: BenchSite) async throws {
        let user = BenchUser.heavyID
        let text = try await Command.run(
            "/usr/bin/env",
            [
                "curl", "--silent", "--show-error", "--fail", "--header", "X-API-Key: \(key)", "--data-binary",
                #"{"key_hash":"\#(KeyHash(of: BenchUser.key(of: user)).hex)"}"#,
                "http://127.0.0.1:\(service.port)/api/litellm/authorize",
            ])
        let answer = try JSONDecoder().decode(Answer.self, from: Data(text.utf8))
        let used = answer.windows.first { $0.period == "monthly" }?.requests.used
        let truth = try await site.number(
            """
            SELECT (SELECT coalesce(sum(requests), 0)::bigint FROM metering.quota_usage
                    WHERE user_id = \(Int64(user)) AND period = 'monthly'
                      AND window_start = date_trunc('month', now() AT TIME ZONE 'UTC')::date)
                 + (SELECT coalesce(sum(d.requests), 0)::bigint
                    FROM metering.quota_deltas q, unnest(q.user_ids, q.days, q.requests) AS d (user_id, day, requests)
                    WHERE d.user_id = \(Int64(user)) AND d.day >= date_trunc('month', now() AT TIME ZONE 'UTC'))
            """)
        try WrongResult.require(
            answer.user == user && used == truth,
            "\(name) says user \(answer.user), \(used ?? -1) requests; the counters say \(user), \(truth).")
    }
}
