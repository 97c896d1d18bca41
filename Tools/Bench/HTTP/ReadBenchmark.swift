import Domain
import Foundation
import Postgres
import Storage
import TestSupport

/// How fast `admin-api` answers one question over HTTP, with a token, on tables as the worker leaves them after a pass.
struct ReadBenchmark: Benchmark {
    let name: String
    private let question: ReadQuestion
    private let connections: Int
    private let recent: Int

    var summary: String { "\(question.summary), \(connections == 1 ? "one connection" : "\(connections) connections")" }

    /// `recent` calls of the present day are made where the heavy user has none.
    init(_ name: String, _ question: ReadQuestion, connections: Int, recent: Int = 60_000) {
        self.name = name
        self.question = question
        self.connections = connections
        self.recent = recent
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        try await settle(site)
        let user = Int64(question.isAdministrators ? Person.administratorID : Person.heavyID)
        let client = try await DashboardClient(site, user: user)
        let from = Timestamp.now.advanced(by: .seconds(-30 * 86_400)).day
        let path = question.path(from)
        return try await MeasuredService("admin-api", site, ["ADMIN_PORT": "0"]).whileRunning { service in
            // The first ones are planned, and read from the disk.
            for _ in 0..<3 { try await requireTruth(client, service, path, from, site) }
            let clock = ContinuousClock()
            let start = clock.now
            _ = try await client.get(path, of: service)
            // So long that every connection is answered twice, were there one processor.
            let enough = 2 * Double(connections) * ((clock.now - start) / .seconds(1))
            let meter = CPUMeter(service: service.process.processID, postmaster: site.postmaster)
            let report = try await client.load(
                path, of: service, connections: connections, seconds: max(seconds, Int(enough.rounded(.up))))
            let measurement = Measurement(report, cpu: meter.reading, of: service)
            try await requireTruth(client, service, path, from, site)
            return measurement
        }
    }

    /// Folds what is there, so that everybody finds the tables as a pass of the worker leaves them. A filled database may be of
    /// another day: the present one has calls too.
    private func settle(_ site: BenchSite) async throws {
        let today = try await site.number(
            """
            SELECT count(*) FROM public.api_logs
            WHERE user_id = \(Int64(Person.heavyID)) AND created_at >= date_trunc('day', now() AT TIME ZONE 'UTC')
            """)
        let recent = recent
        if today == 0 {
            _ = try await site.pool.withConnection { try EventBulk.insert(recent, now: .now, $0) }
        }
        guard try await site.fold().rows > 0 else { return }
        try await site.vacuumSums()
    }

    /// A window that ends now moves on while the answer is made: what it counts lies between before and after.
    private func requireTruth(
        _ client: DashboardClient, _ service: MeasuredService, _ path: String, _ from: CalendarDate, _ site: BenchSite
    ) async throws {
        let before = try await site.number(question.truth(from))
        let calls = try question.calls(Data(try await client.get(path, of: service).utf8))
        let after = try await site.number(question.truth(from))
        try WrongResult.require(
            (min(before, after)...max(before, after)).contains(calls),
            "\(name) says \(calls), the rows said \(before) before and \(after) after.")
    }
}

extension Timestamp {
    /// The UTC day of it.
    fileprivate var day: CalendarDate { CalendarDate(daysSince1970: microseconds / 86_400_000_000) }
}
