import ArgumentParser
import Bootstrap
import Domain
import Foundation
import HTTPSupport
import LiteLLM
import Logging
import Postgres
import Storage

/// `codexflow litellm reconcile`
struct ReconcileCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reconcile",
        abstract: "Compares LiteLLM's record of calls with the stored events, by hour and key.",
        discussion: """
            LITELLM_DATABASE_URL names LiteLLM's database, which is only read. Compared are calls of customers that \
            were served, or that failed with tokens or a cost. The command prints the hours that differ. The exit \
            code is 2 if there are any, or with --take if any remain.
            """)

    /// The longest time of one comparison.
    private static let longest = Duration.seconds(86_400 * 31)

    @Option(help: "Calls that began at or after this time: RFC 3339, or a date in UTC (default: a day before --to).")
    var from: Moment?
    @Option(help: "Calls that began before this time (default: 15 minutes ago; later events may not be delivered yet).")
    var to: Moment?
    @Flag(help: "Store the missing calls, as if they were delivered now.") var take = false
    @Flag(help: "Print one JSON object.") var json = false

    func run() async throws {
        let now = Timestamp.now
        let end = to?.timestamp ?? now.advanced(by: .seconds(-900))
        let start = from?.timestamp ?? end.advanced(by: .seconds(-86_400))
        guard start < end, end <= start.advanced(by: Self.longest) else {
            throw ValidationError("--from must lie before --to, and at most 31 days.")
        }
        let settings = try await OperatorContext.explainingFailure {
            try SettingsReader.load().read { ReconcileSettings(reading: $0) }
        }
        guard let litellm = settings.litellm else {
            throw ValidationError("Set LITELLM_DATABASE_URL to the database of LiteLLM, its own DATABASE_URL.")
        }
        let take = take
        let report = try await OperatorContext.withPool { _, pool in
            try await pool.withConnection { try Migrator.requireCurrent($0) }
            let logger = Logger(label: "codexflow", factory: { _ in SwiftLogNoOpLogHandler() })
            return try await ConnectionPool.withPool(
                litellm, limits: PoolLimits(maxConnections: 1), logger: logger
            ) { spend in
                let reconciliation = Reconciliation(
                    litellm: spend, schema: settings.schema, pool: pool, retention: settings.retention,
                    errorText: settings.errorText, now: { .now })
                return try await reconciliation.report(start..<end, takes: take)
            }
        }
        report.print(asJSON: json)
        if !report.differences.isEmpty { throw ExitCode(2) }
    }
}

/// Where LiteLLM's own database is, and how long events are kept.
struct ReconcileSettings {
    /// LiteLLM's database, under the URL that LiteLLM has in its own `DATABASE_URL`.
    let litellm: ConnectionConfiguration?
    /// The schema of LiteLLM's tables there.
    let schema: String
    let retention: Duration
    let errorText: ErrorText

    static let table: SettingsTable = [
        Setting(
            "LITELLM_DATABASE_URL", .secret,
            "LiteLLM's own database, for 'litellm reconcile'; a role that reads \"LiteLLM_SpendLogs\" is enough.")
    ]

    /// Reads ``table``, and the settings of webhook-api that decide what is stored.
    init(reading settings: SettingsReader) {
        retention = WebhookSettings.retention(settings)
        errorText = WebhookSettings.errorText(settings)
        let setting = Self.table.settings[0]
        schema = settings.secret(setting).map { Self.schema(ofPrisma: $0.reveal()) } ?? Self.standardSchema
        litellm = settings.secret(setting).flatMap { url in
            do {
                return try Self.configuration(ofPrisma: url.reveal())
            } catch {
                settings.reject(setting.name, "is not usable: \((error as? PostgresError)?.message ?? "malformed")")
                return nil
            }
        }
    }

    /// What Prisma's URL names (Prisma, "PostgreSQL connector"). The parameters of Prisma's own pool are left out.
    private static func configuration(ofPrisma url: String) throws -> ConnectionConfiguration {
        let parts = url.split(separator: "?", maxSplits: 1).map(String.init)
        let parameters = parts.count == 2 ? parts[1].split(separator: "&").map(String.init) : []
        let known = parameters.filter { parameter in !own.contains { parameter.hasPrefix("\($0)=") } }
        let query = known.isEmpty ? "" : "?" + known.joined(separator: "&")
        var configuration = try ConnectionConfiguration(url: (parts.first ?? "") + query)
        configuration.applicationName = "codexflow reconcile"
        configuration.statementTimeout = .seconds(300)
        return configuration
    }

    private static let standardSchema = "public"

    private static func schema(ofPrisma url: String) -> String {
        let query = url.split(separator: "?", maxSplits: 1).dropFirst().first ?? ""
        let named = query.split(separator: "&").first { $0.hasPrefix("schema=") }?.dropFirst("schema=".count)
        return named.map(String.init) ?? standardSchema
    }

    private static let own = [
        "schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout", "statement_cache_size",
    ]
}

/// Compares LiteLLM's record of calls with ours, by hour and key.
struct Reconciliation: Sendable {
    /// LiteLLM's database.
    let litellm: ConnectionPool
    /// The schema of its tables.
    let schema: String
    /// Ours.
    let pool: ConnectionPool
    let retention: Duration
    let errorText: ErrorText
    let now: @Sendable () -> Timestamp

    /// Compares, and with `takes` stores what is missing and compares again.
    ///
    /// - Throws: ``PostgresError``; ``AppError`` when the missing events cannot be stored.
    func report(_ range: Range<Timestamp>, takes: Bool) async throws -> ReconcileReport {
        guard takes else {
            let (calls, differences) = try await compare(range)
            return ReconcileReport(range: range, calls: calls, differences: differences, taken: nil)
        }
        let writer = EventWriter(pool: pool, now: now)
        var counts: [String: Int] = [:]
        _ = try await compare(range) { items in
            for verdict in try await writer.write(items, lockedUsers: .quarantine).compactMap(\.self) {
                counts[verdict.word, default: 0] += 1
            }
        }
        let (calls, differences) = try await compare(range)
        return ReconcileReport(range: range, calls: calls, differences: differences, taken: counts)
    }

    /// The hours and keys that differ. Their calls are looked up one by one, and `take` gets pages of missing ones.
    ///
    /// - Throws: ``PostgresError``.
    func compare(
        _ range: Range<Timestamp>, take: ([IngestItem]) async throws -> Void = { _ in }
    ) async throws -> (calls: Int64, differences: [HourOfKey]) {
        var total: Int64 = 0
        var found: [HourOfKey] = []
        // One day at a time, which bounds the hours and keys in memory.
        var start = range.lowerBound
        while start < range.upperBound {
            let end = min(range.upperBound, start.advanced(by: .seconds(86_400)))
            let part = start..<end
            let theirs = try await litellm.withConnection { try SpendLogs.sums(part, in: schema, $0) }
            let ours = try await pool.withConnection { try ServedCalls.sums(part, $0) }
            total += theirs.values.reduce(0) { $0 + $1.calls }
            var hours = Self.differing(theirs, ours)
            try await lookUp(&hours, in: part, take: take)
            found += hours.values.filter { !$0.isEqual }.sorted { $0.id < $1.id }
            start = end
        }
        return (total, found)
    }

    private static func differing(
        _ theirs: [HourOfKey.ID: HourOfKey.Sum], _ ours: [HourOfKey.ID: HourOfKey.Sum]
    ) -> [HourOfKey.ID: HourOfKey] {
        var hours: [HourOfKey.ID: HourOfKey] = [:]
        for id in Set(theirs.keys).union(ours.keys) where theirs[id] != ours[id] {
            var hour = HourOfKey(id: id)
            hour.litellm = theirs[id] ?? hour.litellm
            hour.here = ours[id] ?? hour.here
            hours[id] = hour
        }
        return hours
    }

    private func lookUp(
        _ hours: inout [HourOfKey.ID: HourOfKey], in range: Range<Timestamp>,
        take: ([IngestItem]) async throws -> Void
    ) async throws {
        let keys = Set(hours.values.filter { $0.litellm.calls > 0 }.map(\.id.keyHash)).sorted()
        guard !keys.isEmpty else { return }
        var cursor: String?
        repeat {
            let after = cursor
            let page = try await litellm.withConnection {
                try SpendLogs.page(range, in: schema, keys: keys, after: after, $0)
            }
            let calls = items(page.calls.filter { hours[$0.hourOfKey] != nil })
            let states = try await pool.withConnection { try ServedCalls.find(calls, $0) }
            var missing: [IngestItem] = []
            for ((item, call), state) in zip(calls, states) {
                switch state {
                case .here: break
                case .aside: hours[call.hourOfKey]?.aside += 1
                case .missing:
                    hours[call.hourOfKey]?.missing += 1
                    missing.append(item)
                }
            }
            if !missing.isEmpty { try await take(missing) }
            cursor = page.next
        } while cursor != nil
    }

    /// The calls with their events, parsed as the webhook parses them.
    private func items(_ calls: [SpendLogs.Call]) -> [(item: IngestItem, call: SpendLogs.Call)] {
        guard !calls.isEmpty else { return [] }
        let body = "[" + calls.map(\.event).joined(separator: ",") + "]"
        let arrival = Arrival(at: now(), retention: retention, errorText: errorText)
        let parsed = EventParser.parse(Array(body.utf8), arrival: arrival)
        return zip(parsed.results, calls).map { (IngestItem($0), $1) }
    }
}

/// What a reconciliation found, stored, and could not store.
struct ReconcileReport: Sendable {
    let range: Range<Timestamp>
    /// Calls of the range in LiteLLM's database that a provider served.
    let calls: Int64
    let differences: [HourOfKey]
    /// How many of the missing calls got which verdict; `nil` without `--take`.
    let taken: [String: Int]?

    func print(asJSON: Bool) {
        if asJSON {
            var bytes: [UInt8] = []
            json.append(to: &bytes)
            return Terminal.print(json: String(decoding: bytes, as: UTF8.self))
        }
        QuarantineText.table(
            ["hour", "key", "LiteLLM calls", "calls here", "aside", "missing", "LiteLLM USD", "USD here"],
            differences.map { hour in
                [
                    hour.id.start.rfc3339, "\(hour.id.keyHash.prefix(8))…", "\(hour.litellm.calls)",
                    "\(hour.here.calls)", "\(hour.aside)", "\(hour.missing)", hour.litellm.cost.description,
                    hour.here.cost.description,
                ]
            })
        for (word, count) in (taken ?? [:]).sorted(by: { $0.key < $1.key }) { Terminal.print("\(word) \(count)") }
        let missing = differences.reduce(0) { $0 + $1.missing }
        Terminal.print(
            differences.isEmpty
                ? "all \(calls) calls of LiteLLM's are here"
                : "\(differences.count) hours differ, \(missing) of \(calls) calls are missing")
    }

    private var json: JSON {
        let hours = differences.map { hour -> JSON in
            [
                "hour": .string(hour.id.start.rfc3339), "key_hash": .string(hour.id.keyHash),
                "litellm": json(hour.litellm), "here": json(hour.here), "aside": .integer(hour.aside),
                "missing": .integer(hour.missing),
            ]
        }
        let counts = (taken ?? [:]).sorted { $0.key < $1.key }.map { JSON.Member($0.key, .integer($0.value)) }
        return [
            "from": .string(range.lowerBound.rfc3339), "to": .string(range.upperBound.rfc3339),
            "calls": .integer(calls), "taken": taken == nil ? .null : .object(counts), "differences": .array(hours),
        ]
    }

    private func json(_ sum: HourOfKey.Sum) -> JSON {
        ["calls": .integer(sum.calls), "tokens": .integer(sum.tokens), "cost": .string(sum.cost.description)]
    }
}

extension Verdict {
    fileprivate var word: String {
        switch self {
        case .stored: "stored"
        case .duplicate: "duplicate"
        case .conflict: "conflict"
        case .quarantined(let reason): "quarantined: \(reason.rawValue)"
        }
    }
}
