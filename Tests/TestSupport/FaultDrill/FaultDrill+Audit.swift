internal import Postgres

extension FaultDrill {
    /// Counts what is there after the last acknowledgement, stops the services, and looks for what they leave.
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
            for check in IntegrityCheck.afterLoad { try await audit.check(check, &report) }
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
            ("facts in metering.events", "SELECT count(*) FROM metering.events"),
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
