import Domain
import Foundation
import Postgres
import TestSupport

/// The first byte of a page of `admin-api`, as a signed-in browser waits for it, on tables as a rollup pass leaves
/// them.
struct PageBenchmark: Benchmark {
    /// A page, and the query for its truth.
    enum Page: String, CaseIterable {
        case customer, `operator`

        /// Path below the host.
        var path: String { self == .customer ? "/dashboard/overview" : "/dashboard/operator" }
        var summary: String { self == .customer ? "the customer's overview" : "the operator's overview" }
        /// Who looks at it: the user of a tenth of all events, or the administrator.
        var reader: Int64 { Int64(self == .customer ? BenchUser.heavyID : BenchUser.administratorID) }

        /// The calls of this month, which the page states.
        fileprivate var truth: Query {
            let month: Query = "created_at >= date_trunc('month', now() AT TIME ZONE 'UTC')"
            return self == .customer
                ? "SELECT count(*) FROM public.api_logs WHERE user_id = \(reader) AND \(month)"
                : "SELECT count(*) FROM public.api_logs WHERE \(month)"
        }
    }

    /// Enough for a 99th percentile.
    private static let fewestRequests = 300

    let name: String
    private let page: Page
    private let readers: Int
    private let requests: Int
    private let recent: Int

    var summary: String { "\(page.summary), first byte, \(readers == 1 ? "one reader" : "\(readers) readers at once")" }

    /// `recent` is the number of events that are made for the present day if the heavy user has none.
    init(_ page: Page, readers: Int, requests: Int = fewestRequests, recent: Int = 60_000) {
        name = "page-\(page.rawValue)-\(readers)"
        (self.page, self.readers, self.requests, self.recent) = (page, readers, requests, recent)
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        try await site.rollUpEverything(recent: recent)
        let client = try await DashboardClient.signIn(site, user: page.reader)
        return try await MeasuredService.start("admin-api", site, ["ADMIN_PORT": "0"]).whileRunning { service in
            // PostgreSQL plans the first ones on each connection, and reads them from the disk.
            for _ in 0..<3 { try await requireTruth(client, service, site) }
            _ = try await client.firstBytes(page.path, of: service, readers: readers, requests: 4 * readers)
            let clock = ContinuousClock()
            let (start, meter) = (clock.now, CPUMeter(service: service.process.processID, postmaster: site.postmaster))
            let latencies = try await client.firstBytes(page.path, of: service, readers: readers, requests: requests)
            var measurement = Measurement(
                count: latencies.count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading
            ).withLatencies(latencies)
            measurement.peakMemory = residentPeak(of: service.process.processID)
            try await requireTruth(client, service, site)
            return measurement
        }
    }

    private func requireTruth(_ client: DashboardClient, _ service: MeasuredService, _ site: BenchSite) async throws {
        let html = try await client.get(page.path, of: service)
        let stated = html.firstMatch(of: /month-requests"\s+data-value="([0-9]+)"/).flatMap { Int($0.1) }
        let truth = try await site.number(page.truth)
        try WrongResult.require(
            stated == truth, "\(name) states \(stated.map(String.init) ?? "nothing"), the rows say \(truth).")
    }
}

extension DashboardClient {
    /// The milliseconds until the first byte of `requests` answers, of which `readers` are under way at once.
    ///
    /// - Throws: `Command.Failure` when curl fails; ``WrongResult`` when an answer is not 200.
    fileprivate func firstBytes(
        _ path: String, of service: MeasuredService, readers: Int, requests: Int
    ) async throws -> [Double] {
        let transfer = "url = \"http://127.0.0.1:\(service.port)\(path)\"\noutput = \"/dev/null\"\n"
        let file = FileManager.default.temporaryDirectory.appending(path: "bench-\(UUID().uuidString)")
        try String(repeating: transfer, count: requests).write(to: file, atomically: false, encoding: .utf8)
        defer { try? FileManager.default.removeItem(at: file) }
        let parallel = readers > 1 ? ["--no-progress-meter", "--parallel", "--parallel-max", "\(readers)"] : []
        let output = try await Command.run(
            "/usr/bin/env",
            [
                "curl", "--silent", "--show-error", "--header", header, "--write-out",
                "%{http_code} %{time_starttransfer}\\n", "--config", file.path(),
            ] + parallel, within: .seconds(600))
        let answers = output.split(separator: "\n").map { $0.split(separator: " ") }
        try WrongResult.require(
            answers.count == requests && answers.allSatisfy { $0.count == 2 && $0[0] == "200" },
            "\(path) was not answered \(requests) times: \(output.suffix(200))")
        return answers.compactMap { Double($0[1]) }.map { $0 * 1_000 }
    }
}
