internal import AsyncHTTPClient
internal import Postgres
internal import Storage

/// Kills and stops the parts of the ingest service under load, then counts what is left: nothing acknowledged may be
/// lost, nothing counted twice.
package struct FaultDrill: Sendable {
    package struct Options: Sendable {
        /// How often each fault happens.
        package var rounds: Int
        /// How many `webhook-api` processes share the database.
        package var services: Int
        /// How many senders post at the same time.
        package var clients: Int
        package var users: Int
        /// Decides bodies and faults; the moments at which they meet are the machine's.
        package var seed: UInt64

        package init(
            rounds: Int = 20, services: Int = 1, clients: Int = 8, users: Int = 20,
            seed: UInt64 = .random(in: 0...999_999)
        ) {
            self.rounds = rounds
            self.services = services
            self.clients = clients
            self.users = users
            self.seed = seed
        }
    }

    /// Events that are acknowledged before the next fault.
    private static let eventsBetweenFaults = 200
    private static let recoveryDeadline = Duration.seconds(60)

    let options: Options
    private let log: @Sendable (String) -> Void

    /// Every line of progress goes to `log`.
    package init(_ options: Options, log: @escaping @Sendable (String) -> Void) {
        self.options = options
        self.log = log
    }

    /// Runs on a PostgreSQL cluster of its own. The executable `webhook-api` lies beside the running one.
    ///
    /// Throws `Command.Failure`, `ServiceProcess.Failure`, `PostgresError` and `CancellationError` where the drill
    /// itself could not go on.
    package func run() async throws -> FaultDrillReport {
        log(
            """
            seed \(options.seed): \(options.rounds) rounds of \(Fault.allCases.count) faults, \(options.clients) \
            clients, \
            \(options.services) webhook-api
            """)
        return try await withPostgresCluster { cluster in
            let database = try await DrillDatabase.make(in: cluster)
            let users = try await DrillDatabase.makeUsers(options.users, in: database)
            let processes = WebhookProcesses(databaseURL: database.role(.webhook).url)
            let record = LoadRecord()
            defer { processes.kill() }
            for _ in 0..<options.services { try await processes.start() }
            let injector = FaultInjector(cluster: cluster, database: database, processes: processes)
            let outages = try await withLoad(of: users, to: processes, record) {
                try await injectFaults(by: injector, record)
            }
            return try await audit(record, outages, processes, database)
        }
    }

    /// Runs `body` while the clients send; returns when all they sent is acknowledged.
    private func withLoad<Result: Sendable>(
        of users: [LoadUser], to processes: WebhookProcesses, _ record: LoadRecord,
        _ body: () async throws -> Result
    ) async throws -> Result {
        let http = LoadClient.makeHTTPClient()
        let isStopped = Observed(false)
        let result: Swift.Result<Result, any Error> = await withTaskGroup(of: Void.self) { group in
            for number in 0..<options.clients {
                let client = LoadClient(number: number, http: http, processes: processes, record: record)
                let generator = LoadGenerator(client: number, users: users, seed: options.seed)
                group.addTask { await client.run(generator) { isStopped.value } }
            }
            let result: Swift.Result<Result, any Error>
            do {
                result = .success(try await body())
            } catch {
                result = .failure(error)
                group.cancelAll()
            }
            isStopped.update { $0 = true }
            await group.waitForAll()
            return result
        }
        try await http.shutdown()
        return try result.get()
    }

    /// The faults, each at a random moment after some events were acknowledged; the longest outage of each kind.
    private func injectFaults(by injector: FaultInjector, _ record: LoadRecord) async throws -> [Fault: Duration] {
        var random = SplitMix64(seed: options.seed)
        var outages: [Fault: Duration] = [:]
        let schedule = Fault.schedule(rounds: options.rounds, using: &random)
        for (number, fault) in schedule.enumerated() {
            guard try await record.waitForEvents(Self.eventsBetweenFaults, within: Self.recoveryDeadline) else {
                record.note(finding: "the load stood still before \(fault.rawValue)")
                break
            }
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...300, using: &random)))
            injector.processes.findings.forEach { record.note(finding: $0) }
            let start = ContinuousClock.now
            try await injector.inject(fault, using: &random)
            let isOver = ContinuousClock.now
            guard let recovery = try await record.waitForRecovery(within: Self.recoveryDeadline) else {
                record.note(finding: "nothing was acknowledged within \(Self.recoveryDeadline) of \(fault.rawValue)")
                break
            }
            outages[fault] = max(outages[fault] ?? .zero, recovery - start)
            log(
                """
                \(number + 1)/\(schedule.count) \(fault.rawValue): over after \((isOver - start).inMilliseconds), next \
                acknowledgement after \((recovery - start).inMilliseconds); \(record.counts.acknowledgedEvents) \
                events acknowledged, \
                \(record.findings.count) findings
                """)
        }
        return outages
    }
}
