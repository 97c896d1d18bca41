/// What befalls the ingest service in a drill.
package enum Fault: String, CaseIterable, Sendable {
    case killService = "kill -9 of webhook-api"
    case terminateService = "SIGTERM of webhook-api"
    case killBackend = "kill -9 of a PostgreSQL backend"
    case terminateBackends = "pg_terminate_backend of all"
    case stopServer = "immediate stop of PostgreSQL"

    /// Each of them `rounds` times, in a random order.
    static func schedule(rounds: Int, using generator: inout SplitMix64) -> [Fault] {
        allCases.flatMap { Array(repeating: $0, count: rounds) }.shuffled(using: &generator)
    }
}
