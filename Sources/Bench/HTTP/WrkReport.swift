import Foundation

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
}
