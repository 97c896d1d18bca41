import Domain
import Postgres

/// Checks that events arrive, and that counters, rollups and quarantine keep up with them.
enum WorkDiagnosis {
    /// Services count deltas within a second. A delta that two checks see shows that no service runs.
    static func counters(_ connection: Connection) throws -> [Finding] {
        let oldest: Query = "SELECT id FROM metering.quota_deltas ORDER BY id LIMIT 1"
        guard let first = try connection.query(oldest).first?.decode(0, as: Int64.self) else {
            return [.ok("counters", "no delta waits to be counted")]
        }
        try connection.execute("SELECT pg_sleep(1.5)")
        let rows = try connection.query(
            """
            SELECT EXISTS (SELECT FROM metering.quota_deltas WHERE id = \(first)),
                   (SELECT count(*) FROM (SELECT FROM metering.quota_deltas LIMIT 100001) d)
            """)
        let (isStill, count) = try rows[0].decode(Bool.self, Int.self)
        guard isStill else { return [.ok("counters", "deltas are counted; \(count) wait")] }
        let message = "\(count > 100_000 ? "over 100000" : "\(count)") deltas wait, the oldest for more than a second"
        let remedy = "Start webhook-api, which counts them, and look for 'background job failed' in its log."
        return [count > 100_000 ? .failure("counters", message, remedy) : .warning("counters", message, remedy)]
    }

    /// A running worker ends a pass about every minute. Only the first pass, over all history, takes longer.
    static func sums(_ connection: Connection, now: Timestamp) throws -> [Finding] {
        let rows = try connection.query(
            "SELECT extract(epoch FROM \(now) - passed_at)::bigint FROM metering.rollup_watermark")
        let remedy = "Start 'aggregation-worker run', or 'once' by cron; until then answers are right, and slow."
        guard let age = try rows.first?.decode(0, as: Int64?.self) else {
            return [.warning("sums", "no pass of the worker has ended yet", remedy)]
        }
        let message = "the worker's last pass ended \(max(age, 0).asAge) ago"
        return [age > 3600 ? .warning("sums", message, remedy) : .ok("sums", message)]
    }

    /// The reasons that are failures, with what to look for. Other open entries are a warning. Denied calls of unknown
    /// callers are normal.
    private static let remedies: [QuarantineReason: String] = [
        .laravelUnavailable:
            "See the laravel and privileges findings; the events become rows by themselves afterwards.",
        .userLocked: "See the transactions finding; the events become rows when the lock is gone.",
        .unknownKey: "Keys that nobody holds: give the user the key back, or discard the events.",
        .unknownUser: "Users who do not exist: restore them, or discard the events.",
        .identityConflict: "Key and user id disagree: check what custom_auth returns.",
        .conflict: "Two events of one identity differ: check the sender's Idempotency-Key.",
    ]

    static func quarantine(_ connection: Connection, rolePrefix: String, now: Timestamp) throws -> [Finding] {
        let laravel = try LaravelDiagnosis.findings(connection, rolePrefix: rolePrefix, connectedAs: .operator)
        let isDoubtful = laravel.contains(where: \.makesVerdictsDoubtful)
        let rows = try connection.query(
            """
            SELECT q.reason, count(*), extract(epoch FROM \(now) - min(q.received_at))::bigint
            FROM metering.quarantine q WHERE q.resolved_at IS NULL GROUP BY q.reason ORDER BY q.reason
            """)
        return try rows.map { row in
            let (reason, count, age) = try row.decode(String.self, Int.self, Int64.self)
            let message = "\(count) \(reason), the oldest \(age.asAge) old"
            let known = QuarantineReason(rawValue: reason)
            let usual = known.flatMap { remedies[$0] } ?? "See what they are, then replay or discard them."
            let remedy = isDoubtful ? QuarantineReason.firstTheDatabase : usual
            switch known {
            case .denied: return Finding.ok("quarantine", message)
            case .laravelUnavailable: return .failure("quarantine", message, remedy)
            default: return .warning("quarantine", message, remedy)
            }
        }.orOK("quarantine", "nothing waits")
    }

    /// Whether events of LiteLLM's spools are missing. A gap of a few minutes is normal, as events are sent again.
    static func spools(_ connection: Connection, now: Timestamp) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT s.spool::text, s.gaps::text, s.lost, coalesce(extract(epoch FROM \(now) - s.gap_since), 0)::bigint
            FROM metering.spools s WHERE s.lost > 0 OR NOT isempty(s.gaps) ORDER BY s.spool
            """)
        return try rows.flatMap { row -> [Finding] in
            let (spool, gaps, lost, age) = try row.decode(String.self, String.self, Int64.self, Int64.self)
            var findings: [Finding] = []
            if age > 300 {
                let remedy =
                    "Start the LiteLLM worker of that spool: it sends them again if they are a day old at most."
                findings.append(.warning("spools", "\(spool) lacks \(gaps) since \(age.asAge)", remedy))
            }
            if lost > 0 {
                let remedy = "Make room on the disk of CODEXFLOW_SPOOL; compare the day with the provider's bill."
                findings.append(.failure("spools", "\(spool) had no room for \(lost) events, which are lost", remedy))
            }
            return findings
        }.orOK("spools", "nothing is missing")
    }

    /// The time since the last event, by the time in the largest event key. The time of arrival is not stored.
    static func lastEvent(_ connection: Connection, now: Timestamp, silence: Duration) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT extract(epoch FROM \(now) - e.occurred_at)::bigint FROM metering.events e
            WHERE e.event_key < 'ffff0000-0000-0000-0000-000000000000' ORDER BY e.event_key DESC LIMIT 1
            """)
        let remedy = "Check that the proxy runs, its callback's endpoint and X-API-Key, and webhook-api's log."
        guard let age = try rows.first?.decode(0, as: Int64.self) else {
            return [.warning("last event", "no event of the proxy was ever stored", remedy)]
        }
        let message = "the last call was made \(max(age, 0).asAge) ago"
        return [
            age > silence.components.seconds
                ? .warning("last event", message, remedy) : .ok("last event", message)
        ]
    }
}

extension Int64 {
    /// These seconds as an age for an operator.
    fileprivate var asAge: String {
        switch self {
        case ..<120: "\(self) s"
        case ..<7200: "\(self / 60) min"
        case ..<172_800: "\(self / 3600) h"
        default: "\(self / 86_400) days"
        }
    }
}
