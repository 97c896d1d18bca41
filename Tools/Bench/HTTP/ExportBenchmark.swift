import Domain
import Foundation
import Postgres
import TestSupport

/// All calls of the user who made a tenth of them as CSV: through `admin-api`, or by psql's `\copy` of the same columns.
struct ExportBenchmark: Benchmark {
    let name: String
    let summary: String
    private let isCopy: Bool

    init(_ name: String, isCopy: Bool = false, _ summary: String) {
        self.name = name
        self.summary = summary
        self.isCopy = isCopy
    }

    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement {
        let rows = try await site.number(
            "SELECT count(*) FROM public.api_logs WHERE user_id = \(Int64(Person.heavyID))")
        if isCopy { return try await repeated(rows, site, service: nil, seconds) { try await copy(site, into: $0) } }
        let client = try await DashboardClient(site, user: Int64(Person.heavyID))
        return try await MeasuredService("admin-api", site, ["ADMIN_PORT": "0"]).whileRunning { service in
            var measurement = try await repeated(rows, site, service: service.process.processID, seconds) {
                _ = try await client.get("/api/usage/export", of: service, into: $0)
            }
            measurement.peakMemory = residentPeak(of: service.process.processID)
            return measurement
        }
    }

    /// Whole exports, one after another, for at least `seconds`; the last of them is compared with `\copy` byte by byte.
    private func repeated(
        _ rows: Int, _ site: BenchSite, service: Int32?, _ seconds: Int, _ export: (String) async throws -> Void
    ) async throws -> Measurement {
        let files = ["export.csv", "copy.csv"].map { site.folder.appending(path: $0).path() }
        defer { files.forEach { try? FileManager.default.removeItem(atPath: $0) } }
        try await export(files[0])
        let clock = ContinuousClock()
        let (start, meter) = (clock.now, CPUMeter(service: service, postmaster: site.postmaster))
        var count = 0
        repeat {
            try await export(files[0])
            count += rows
        } while clock.now - start < .seconds(seconds)
        var measurement = Measurement(count: count, seconds: (clock.now - start) / .seconds(1), cpu: meter.reading)
        if service == nil { measurement.serviceCPU = nil }
        try await copy(site, into: files[1])
        // The first line names the columns in words of each one's own.
        let same = #"tail -n +2 "$0" >"$0.rows"; tail -n +2 "$1" | cmp - "$0.rows"; code=$?; rm "$0.rows"; exit $code"#
        try await Command.run("/bin/sh", ["-c", same] + files)
        let lines = try await Command.run("/bin/sh", ["-c", #"wc -l <"$0""#, files[0]])
        try WrongResult.require(Int(lines) == rows + 1, "\(name) has \(lines) lines for \(rows) rows and the names.")
        return measurement
    }

    private func copy(_ site: BenchSite, into file: String) async throws {
        let database = site.database
        let rows = """
            SELECT created_at, model, input_tokens, output_tokens, total_cost, response_time_ms, status
            FROM public.api_logs WHERE user_id = \(Person.heavyID) ORDER BY created_at DESC, id DESC
            """
        try await Command.run(
            "/usr/bin/env",
            [
                "psql", "--no-psqlrc", "--quiet", "--host", database.host, "--port", "\(database.port)", "--username",
                database.user, "--dbname", database.database, "--command",
                "\\copy (\(rows.replacing("\n", with: " "))) TO '\(file)' WITH (FORMAT csv, HEADER)",
            ], within: .seconds(600))
    }
}
