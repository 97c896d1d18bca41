/// One thing that is measured.
///
/// A benchmark proves what it claims: it counts what the database holds afterwards, and a fast wrong number is an error.
protocol Benchmark: Sendable {
    /// Lower case with hyphens; what ratios and `--only` refer to.
    var name: String { get }
    /// One line for a reader of the table.
    var summary: String { get }

    /// Measures once, for about `seconds`, after a warm-up.
    ///
    /// - Throws: ``WrongResult`` when the database does not hold what was acknowledged.
    func measure(_ site: BenchSite, seconds: Int) async throws -> Measurement
}

/// What one measurement found.
struct Measurement: Codable, Sendable, Equatable {
    /// Events, rows or transactions a second.
    var rate: Double
    /// How many of them there were while the clock ran.
    var count: Int
    /// Milliseconds of a request or transaction.
    var meanLatency: Double?
    var medianLatency: Double?
    var latency99: Double?
    /// Microseconds of processor time for each event: of the service (or of this program in its place), of PostgreSQL with
    /// all its processes, and of the load generator.
    var serviceCPU: Double?
    var postgresCPU: Double?
    var clientCPU: Double?
    /// The most memory that the service ever had, in bytes (`VmHWM`).
    var peakMemory: Int?
    /// Events of one transaction, on average.
    var batchEvents: Double?
}

/// A measurement in its place of the run.
struct Sample: Codable, Sendable, Equatable {
    let benchmark: String
    /// From 1.
    let round: Int
    let measurement: Measurement
}

/// The database does not hold what was acknowledged; the numbers of the run mean nothing.
struct WrongResult: Error, CustomStringConvertible {
    let description: String

    /// - Throws: itself unless `isRight`.
    static func require(_ isRight: Bool, _ description: @autoclosure () -> String) throws {
        guard isRight else { throw WrongResult(description: description()) }
    }
}
