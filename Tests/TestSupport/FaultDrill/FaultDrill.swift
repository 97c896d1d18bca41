internal import AsyncHTTPClient
internal import Postgres
internal import Storage

/// Kills and stops webhook-api and PostgreSQL under load, and lets a standby take over. Then it checks that no
/// acknowledged event is lost and none is counted twice.
package struct FaultDrill: Sendable {
    package struct Options: Sendable {
        /// How often each fault happens.
        package var rounds: Int
        /// Whether PostgreSQL has a synchronous standby, which takes over in further faults.
        package var hasStandby: Bool
        /// How many `webhook-api` processes share the database.
        package var services: Int
        /// How many senders post at the same time.
        package var clients: Int
        package var users: Int
        /// Decides bodies and faults, but not the moments of the faults.
        package var seed: UInt64

        package init(
            rounds: Int = 20, hasStandby: Bool = false, services: Int = 1, clients: Int = 8, users: Int = 20,
            seed: UInt64 = .random(in: 0...999_999)
        ) {
            self.rounds = rounds
            self.hasStandby = hasStandby
            self.services = services
            self.clients = clients
            self.users = users
            self.seed = seed
        }
    }

    /// How many events are acknowledged before the next fault.
    private static let eventsBetweenFaults = 200
    private static let recoveryDeadline = Duration.seconds(60)

    let options: Options
    private let log: @Sendable (String) -> Void

    /// `log` gets the lines of progress.
    package init(_ options: Options, log: @escaping @Sendable (String) -> Void) {
        self.options = options
        self.log = log
    }

    /// Runs the drill on a PostgreSQL cluster of its own. `webhook-api` must be in the folder of the running program.
    ///
    /// - Throws: ``Command/Failure``, ``ServiceProcess/Failure``, ``PostgresError`` or `CancellationError` when the
    ///   drill cannot continue.
    package func run() async throws -> FaultDrillReport {
        log(
            """
            seed \(options.seed): \(options.rounds) rounds of \(options.faults.count) faults, \
            \(options.clients) clients, \(options.services) webhook-api
            """)
        return try await withPostgresCluster { cluster in
            let database = try await DrillDatabase.make(in: cluster)
            guard options.hasStandby else { return try await run(on: DrillServers(primary: cluster), database) }
            return try await cluster.withSynchronousStandby { standby in
                var both = database.writing
                both.otherAddresses = [standby.address]
                return try await run(on: DrillServers(primary: cluster, standby: standby), both)
            }
        }
    }

    private func run(on servers: DrillServers, _ database: ConnectionConfiguration) async throws -> FaultDrillReport {
        let users = try await DrillDatabase.makeUsers(options.users, in: database)
        let processes = WebhookProcesses(databaseURL: database.role(.webhook).url)
        let record = LoadRecord()
        defer { processes.kill() }
        for _ in 0..<options.services { try await processes.start() }
        let injector = FaultInjector(servers: servers, database: database, processes: processes)
        let outages = try await withLoad(of: users, to: processes, record) {
            try await injectFaults(by: injector, record)
        }
        return try await audit(record, outages, processes, database)
    }

    /// Runs `body` while the clients send. Returns when all sent events are acknowledged.
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

    /// Injects the faults, each at a random moment after some events were acknowledged. Returns the longest outage of
    /// each kind.
    private func injectFaults(by injector: FaultInjector, _ record: LoadRecord) async throws -> [Fault: Duration] {
        var random = SplitMix64(seed: options.seed)
        var outages: [Fault: Duration] = [:]
        let schedule = options.faults.flatMap { Array(repeating: $0, count: options.rounds) }.shuffled(using: &random)
        for (number, fault) in schedule.enumerated() {
            guard try await record.waitForEvents(Self.eventsBetweenFaults, within: Self.recoveryDeadline) else {
                record.note(finding: "the load stopped before \(fault.rawValue)")
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
                acknowledgement after \((recovery - start).inMilliseconds); \
                \(record.counts.acknowledgedEvents) events acknowledged, \
                \(record.findings.count) findings
                """)
        }
        return outages
    }
}

extension FaultDrill {
    /// Checks the database after the last acknowledgement, stops the services, and checks what they leave.
    func audit(
        _ record: LoadRecord, _ outages: [Fault: Duration], _ processes: WebhookProcesses,
        _ database: ConnectionConfiguration
    ) async throws -> FaultDrillReport {
        let loadEnded = ContinuousClock.now
        return try await withPool(database) { pool in
            let audit = IntegrityAudit(pool: pool)
            var report = FaultDrillReport()
            report.add("seed", options.seed)
            try await audit.check(.projection, &report)
            report.add("rate_limits right after", (ContinuousClock.now - loadEnded).inMilliseconds)
            try await audit.check(.openTransactions, &report)
            try await audit.load(record.entries)
            for check in IntegrityCheck.stored { try await audit.check(check, &report) }
            report.findings += processes.findings
            try await processes.stop()
            try await audit.check(.sessions, &report)
            try await audit.addFigures(to: &report)
            report.add(record, outages)
            report.errorLines = processes.errorLines
            return report
        }
    }
}

extension IntegrityAudit {
    fileprivate func check(_ check: IntegrityCheck, _ report: inout FaultDrillReport) async throws {
        let (count, examples) = try await offenders(of: check)
        report.add(check.name, count)
        if count > 0 { report.findings.append("\(count) \(check.name): \(examples)") }
    }

    fileprivate func addFigures(to report: inout FaultDrillReport) async throws {
        let daily = { (column: String) -> Query in
            "SELECT sum(q.\(unsafeSQL: column)) FROM metering.quota_usage q WHERE q.period = 'daily'"
        }
        let figures: [(String, Query)] = [
            ("storable events sent", "SELECT count(*) FROM drill.expected x WHERE x.reason IS NULL"),
            ("events in metering.events", "SELECT count(*) FROM metering.events"),
            ("rows of api_logs", "SELECT count(*) FROM public.api_logs"),
            ("unstorable events sent", "SELECT count(*) FROM drill.expected x WHERE x.reason IS NOT NULL"),
            ("entries in quarantine", "SELECT count(*) FROM metering.quarantine"),
            ("requests sent that count", "SELECT sum(x.requests) FROM drill.expected x"),
            ("requests in daily counters", daily("requests")),
            ("tokens sent that count", "SELECT sum(x.tokens) FROM drill.expected x"),
            ("tokens in daily counters", daily("tokens")),
        ]
        for (name, query) in figures { report.add(name, try await number(query)) }
    }
}

extension FaultDrillReport {
    fileprivate mutating func add(_ record: LoadRecord, _ outages: [Fault: Duration]) {
        let counts = record.counts
        add("bodies sent", counts.bodies)
        add("events acknowledged", counts.acknowledgedEvents)
        for (status, attempts) in counts.attempts.sorted(by: { ($0.key ?? 0) < ($1.key ?? 0) }) {
            add("attempts answered by \(status.map(String.init) ?? "nothing")", attempts)
        }
        for fault in Fault.allCases {
            guard let outage = outages[fault] else { continue }
            add("longest outage after \(fault.rawValue)", outage.inMilliseconds)
        }
        findings += record.findings
    }
}

extension Duration {
    /// In whole milliseconds, as in `1250 ms`.
    var inMilliseconds: String { "\(Int(self / .milliseconds(1))) ms" }
}

/// The figures and findings of a drill.
package struct FaultDrillReport: Sendable, CustomStringConvertible {
    package struct Figure: Sendable {
        package let name: String
        package let value: String
    }

    package internal(set) var figures: [Figure] = []
    /// Lost and double events, and wrong answers. The service promises that there are none.
    package internal(set) var findings: [String] = []
    /// The first error lines in the logs of the services. They are no findings.
    package internal(set) var errorLines: [String] = []

    package var isClean: Bool { findings.isEmpty }

    mutating func add(_ name: String, _ value: some CustomStringConvertible) {
        figures.append(Figure(name: name, value: value.description))
    }

    /// A table of the figures, the findings, and the result.
    package var description: String {
        let width = figures.map(\.name.count).max() ?? 0
        let table = figures.map { figure in
            figure.name + String(repeating: " ", count: width + 2 - figure.name.count) + figure.value
        }
        let verdict = isClean ? "nothing lost, nothing doubled" : "\(findings.count) findings"
        let remarks = errorLines.map { "LOG: \($0)" } + findings.map { "FINDING: \($0)" }
        return (table + remarks + [verdict]).joined(separator: "\n")
    }
}

/// The faults of a drill.
package enum Fault: String, CaseIterable, Sendable {
    case killService = "kill -9 of webhook-api"
    case terminateService = "SIGTERM of webhook-api"
    case killBackend = "kill -9 of a PostgreSQL backend"
    case terminateBackends = "pg_terminate_backend of all"
    case stopServer = "immediate stop of PostgreSQL"
    case failOver = "immediate stop of the primary, the standby takes over"
    case switchOver = "planned change of the primary"
}

extension FaultDrill.Options {
    /// The faults that are possible.
    var faults: [Fault] { Fault.allCases.filter { hasStandby || ![.failOver, .switchOver].contains($0) } }
}
