import Analytics
import Domain
import HTTPSupport
import Logging
import Metrics
import NIOCore
import Storage

/// All open streams of the process. One poll of the database serves them all, and runs only while there are any.
actor LiveHub {
    /// How many streams there may be, and for how long.
    struct Limits: Sendable, Hashable {
        var readers = 1_000
        var readersOfUser = 10
        /// After which a stream ends, and its client connects again.
        var lifetime = Duration.seconds(3_600)
    }

    /// What readers of one scope get.
    private struct Scope {
        var readers: [LiveReader] = []
        /// `nil` until it is read.
        var usage: LiveUsage?
        var readAt = ContinuousClock.now
        /// When totals were sent.
        var sentAt: ContinuousClock.Instant?
        var isChanged = false
        /// New logs that were not sent since the last totals.
        var leftOut = 0
    }

    /// The pause between two polls. With what a poll takes, two of them are less than a second.
    private static let pause = Duration.milliseconds(420)
    /// The least time between two totals of a scope: a little less than two polls.
    private static let totalsInterval = Duration.milliseconds(800)
    /// How long a poll may take.
    private static let deadline = Duration.seconds(5)
    /// The time after which usage is read anew, because logs may be withdrawn or deleted.
    private static let refreshInterval = Duration.seconds(60)
    /// Readers that are admitted in one poll.
    private static let admittedAtOnce = 100
    /// Scopes whose usage is read for the first time in one poll.
    private static let readAtOnce = 200
    /// Scopes whose usage is read anew in one poll. The new logs of all wait for it.
    private static let refreshedAtOnce = 25
    /// The time after which something is sent to each reader.
    private static let heartbeatInterval = Duration.seconds(15)
    /// The time within which each caller is checked again.
    private static let checkInterval = Duration.seconds(10)
    private static let checksInInterval = 10

    nonisolated let limits: Limits
    nonisolated let database: Database
    nonisolated let gate: ExportGate
    private let now: @Sendable () -> Timestamp
    private let logger: Logger
    private var scopes: [LiveScope: Scope] = [:]
    private var arrivals: [LiveReader] = []
    private var count = 0
    private var tail: LogTail?
    private var isPolling = false
    private var isAway = false
    private let readerGauge = Gauge(label: "stream_readers")
    private let pollTimer = Timer(label: "stream_poll_seconds")
    private let failureCounter = Counter(label: "stream_failed_polls_total")
    private let resetCounter = Counter(label: "stream_resets_total")

    init(
        database: Database, limits: Limits = Limits(), logger: Logger = Logger(label: "admin-api"),
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) {
        (self.database, self.limits, self.logger, self.now) = (database, limits, logger, now)
        gate = ExportGate(
            limit: limits.readers, share: limits.readersOfUser,
            busy: "You have \(limits.readersOfUser) streams open. Close one, or try again later.",
            full: "Too many streams are open. Try again later, or ask for /api/v1/logs in the meantime.")
    }

    /// Where a stream begins now: every log that commits later comes after it.
    ///
    /// - Throws: ``PostgresError``; ``RollupState/Missing``.
    func mark() async throws -> LogMark {
        if let tail, !isAway { return tail.mark }
        return try await database.read { try ReportSnapshot.take($0) { try LogTail.begin(on: $0).mark } }
    }

    /// Adds a reader. It gets its first totals with the next poll.
    func join(_ reader: LiveReader) {
        arrivals.append(reader)
        count += 1
        readerGauge.record(count)
        guard !isPolling else { return }
        isPolling = true
        // Not a child of the request, and without its task-local values.
        Task.detached { await self.run() }
    }

    /// Removes a reader that has joined.
    func leave(_ reader: LiveReader) {
        count -= 1
        readerGauge.record(count)
        arrivals.removeAll { $0 === reader }
        scopes[reader.scope]?.readers.removeAll { $0 === reader }
        if scopes[reader.scope]?.readers.isEmpty == true { scopes[reader.scope] = nil }
    }

    private var readers: [LiveReader] { arrivals + scopes.values.flatMap(\.readers) }
}

extension LiveHub {
    private func run() async {
        let checks = Task { await runChecks() }
        while count > 0 {
            let isComplete = await poll()
            for reader in readers where reader.end <= .now { reader.end(saying: "come again") }
            sendHeartbeats()
            if isComplete { try? await Task.sleep(for: Self.pause) }
        }
        (isPolling, tail, scopes, isAway) = (false, nil, [:], false)
        checks.cancel()
    }

    /// Reads what is new and sends it. Returns whether that was all.
    private func poll() async -> Bool {
        let start = ContinuousClock.now
        let arriving = Array(arrivals.prefix(Self.admittedAtOnce))
        let round = round(arriving)
        do {
            let findings = try await withDeadline(Self.deadline) { [database] in
                try await database.read { try round.read($0) }
            }
            guard let findings else { throw AppError(.timeout, "The poll took too long.") }
            pollTimer.record(duration: ContinuousClock.now - start)
            isAway = false
            deliver(findings, to: arriving, after: round)
            return findings.step.isComplete && !arriving.contains { $0 === arrivals.first }
                && arrivals.count <= Self.admittedAtOnce
        } catch {
            failureCounter.increment()
            noteAbsence(error)
            return true
        }
    }

    /// Says once that the database is away. The tail goes on where it was.
    private func noteAbsence(_ error: any Error) {
        guard !isAway else { return }
        isAway = true
        logger.warning("streams wait for the database", metadata: ["error": "\(String(reflecting: error))"])
        for reader in readers { send(LiveEvent.comment("waiting for the database"), to: reader) }
    }

    private func round(_ arriving: [LiveReader]) -> LiveRound {
        let watched = Set(scopes.keys.map(\.user) + arriving.map(\.scope.user))
        let returns = arriving.compactMap { reader -> LiveRound.Return? in
            guard case .after(let mark) = reader.start else { return nil }
            return LiveRound.Return(reader: ObjectIdentifier(reader), user: reader.scope.user, mark: mark)
        }
        return LiveRound(
            tail: tail, users: watched.contains(nil) ? nil : Set(watched.compactMap(\.self)), returns: returns,
            due: dueScopes(arriving), periods: knownPeriods, now: now())
    }

    /// The scopes whose usage is to be read: those without any, and the oldest.
    private func dueScopes(_ arriving: [LiveReader]) -> [LiveScope] {
        let (moment, start) = (now(), ContinuousClock.now)
        let new = Set(arriving.map(\.scope)).filter { scopes[$0] == nil } + scopes.filter { $0.value.usage == nil }.keys
        let old = scopes.filter { _, scope in
            guard let usage = scope.usage else { return false }
            return usage.periods.day.to <= moment || start - scope.readAt >= Self.refreshInterval
        }
        let oldest = old.sorted { $0.value.readAt < $1.value.readAt }.map(\.key)
        return Array(new.prefix(Self.readAtOnce) + oldest.prefix(Self.refreshedAtOnce))
    }

    private var knownPeriods: [TimeZoneName: LivePeriods] {
        let moment = now()
        let known = scopes.compactMap { scope, value in value.usage.map { (scope.zone, $0.periods) } }
        return Dictionary(known) { first, _ in first }
            .filter { $0.value.day.from <= moment && moment < $0.value.day.to }
    }

    private func sendHeartbeats() {
        for reader in readers where reader.isSilent(for: Self.heartbeatInterval) {
            send(LiveEvent.heartbeat(tail?.mark), to: reader)
        }
    }

    private func send(_ events: ByteBuffer, to reader: LiveReader) {
        guard events.readableBytes > 0 else { return }
        let mark = tail?.mark
        let hasKeptUp = reader.send(events) {
            mark.map { LiveEvent.reset(.slow, $0) } ?? LiveEvent.comment("waiting for the database")
        }
        if !hasKeptUp { resetCounter.increment() }
    }
}

extension LiveHub {
    /// Sends what a round has found.
    private func deliver(_ findings: LiveRound.Findings, to arriving: [LiveReader], after round: LiveRound) {
        tail = findings.tail
        if findings.step.isReset { resetAll(findings.tail.mark) }
        sendLogs(findings)
        for growth in findings.growth { add(growth, except: findings.usage) }
        guard findings.step.isComplete else { return }
        for (scope, usage) in findings.usage { renew(scope, usage) }
        for reader in arriving where arrivals.contains(where: { $0 === reader }) {
            admit(reader, findings)
        }
        // A reader may have left while its usage was read.
        scopes = scopes.filter { !$0.value.readers.isEmpty }
        sendTotals(findings)
    }

    private func resetAll(_ mark: LogMark) {
        for (key, scope) in scopes {
            resetCounter.increment(by: scope.readers.count)
            for reader in scope.readers { send(LiveEvent.reset(.unknown, mark), to: reader) }
            scopes[key]?.usage = nil
        }
    }

    private func sendLogs(_ findings: LiveRound.Findings) {
        guard !findings.step.entries.isEmpty else { return }
        let byUser = Dictionary(grouping: findings.step.entries, by: \.user)
        for (key, scope) in scopes {
            let entries = key.user.map { byUser[$0] ?? [] } ?? findings.step.entries
            let events = LiveRound.sent(of: entries).compactMap { findings.events[$0.position] }
            scopes[key]?.leftOut += entries.count - events.count
            let bytes = events.joinedBuffer
            for reader in scope.readers { send(bytes, to: reader) }
        }
    }

    private func add(_ growth: LiveUsage.Growth, except renewed: [LiveScope: LiveUsage]) {
        for key in scopes.keys where renewed[key] == nil {
            guard key.user.map({ $0 == growth.user }) ?? !growth.isSelfReported else { continue }
            scopes[key]?.usage?.add(growth)
            scopes[key]?.isChanged = true
        }
    }

    private func renew(_ key: LiveScope, _ usage: LiveUsage) {
        var scope = scopes[key] ?? Scope()
        if scope.usage != usage { scope.isChanged = true }
        scope.usage = usage
        scope.readAt = .now
        scopes[key] = scope
    }

    /// Lets a reader take part from now on, after what it has missed.
    private func admit(_ reader: LiveReader, _ findings: LiveRound.Findings) {
        let mark = findings.tail.mark
        switch (reader.start, findings.missed[ObjectIdentifier(reader)]) {
        case (.after, nil): return
        case (.after, .some(.some(let events))): send(events.joinedBuffer, to: reader)
        case (.after, .some(.none)), (.unknown, _):
            resetCounter.increment()
            send(LiveEvent.reset(.tooOld, mark), to: reader)
        }
        arrivals.removeAll { $0 === reader }
        var scope = scopes[reader.scope] ?? Scope()
        scope.readers.append(reader)
        // The first totals of a scope go to all its readers, below.
        if let usage = scope.usage, scope.sentAt != nil {
            let totals = LiveEvent.Totals(usage: usage, leftOut: 0, asOf: findings.asOf)
            send(LiveEvent.totals(totals, mark), to: reader)
        }
        scopes[reader.scope] = scope
    }

    private func sendTotals(_ findings: LiveRound.Findings) {
        for (key, var scope) in scopes {
            guard scope.isChanged || scope.leftOut > 0, let usage = scope.usage,
                scope.sentAt.map({ ContinuousClock.now - $0 >= Self.totalsInterval }) ?? true
            else { continue }
            let totals = LiveEvent.Totals(usage: usage, leftOut: scope.leftOut, asOf: findings.asOf)
            let event = LiveEvent.totals(totals, findings.tail.mark)
            for reader in scope.readers { send(event, to: reader) }
            (scope.isChanged, scope.leftOut, scope.sentAt) = (false, 0, .now)
            scopes[key] = scope
        }
    }
}

extension LiveHub {
    /// Checks the callers of all readers again and again, spread over time.
    private func runChecks() async {
        var queue: ArraySlice<LiveReader> = []
        var share = 0
        while !Task.isCancelled {
            if queue.isEmpty {
                queue = readers[...]
                share = queue.count / Self.checksInInterval + 1
            }
            for reader in queue.prefix(share) { await check(reader) }
            queue = queue.dropFirst(share)
            try? await Task.sleep(for: Self.checkInterval / Self.checksInInterval)
        }
    }

    /// Ends the streams of `user` that may be read no longer: one who has signed out or was suspended.
    func check(_ user: Int64) async {
        for reader in readers where reader.caller == user { await check(reader) }
    }

    private func check(_ reader: LiveReader) async {
        // An error says nothing of the caller: the database may be away.
        guard let isAllowed = try? await reader.isAllowed(), !isAllowed else { return }
        reader.end(saying: "signed out")
    }
}

extension [ByteBuffer] {
    /// One after the other.
    fileprivate var joinedBuffer: ByteBuffer {
        var all = ByteBuffer()
        for buffer in self { all.writeImmutableBuffer(buffer) }
        return all
    }
}
