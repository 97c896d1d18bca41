import Foundation
import TestSupport

/// What `scripts/wrk.lua` says at the end.
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
    /// - Throws: ``WrongResult`` where it is missing.
    init(_ output: String) throws {
        guard let line = output.split(whereSeparator: \.isNewline).last(where: { $0.hasPrefix("{") }),
            let report = try? JSONDecoder().decode(Self.self, from: Data(line.utf8))
        else { throw WrongResult(description: "wrk did not report: \(output)") }
        self = report
    }

    /// Runs wrk with one thread and these arguments.
    ///
    /// - Throws: `Command.Failure`; ``WrongResult`` where a request failed, or none was answered.
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
