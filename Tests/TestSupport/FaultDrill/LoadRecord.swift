internal import Domain
internal import Synchronization

/// What was sent, what was answered, and every answer that cannot be right.
package final class LoadRecord: Sendable {
    /// One event, however often it was sent.
    package struct Entry: Sendable {
        package let name: String
        package let fate: LoadEvent.Fate
        var isAcknowledged = false
        /// Of the first answer.
        package var logID: Int64?
        var storedAnswers = 0

        package init(name: String, fate: LoadEvent.Fate, logID: Int64? = nil) {
            self.name = name
            self.fate = fate
            self.logID = logID
        }
    }

    /// Figures of the load.
    struct Counts: Sendable {
        var bodies = 0
        var acknowledgedEvents = 0
        /// Attempts by their outcome: a status, or none where the connection broke.
        var attempts: [Int?: Int] = [:]
    }

    /// The wait for the first acknowledgement after a fault.
    private struct Recovery {
        var since: ContinuousClock.Instant
        var firstAcknowledged: ContinuousClock.Instant?
    }

    private struct Progress: Sendable {
        var acknowledgedEvents = 0
        var recovery: Recovery?
        var isCancelled = false
    }

    private struct State {
        var entries: [String: Entry] = [:]
        var counts = Counts()
        var findings: [String] = []
    }

    private let state = Mutex(State())
    private let progress = Observed(Progress())

    var entries: [Entry] { state.withLock { Array($0.entries.values) } }
    var counts: Counts { state.withLock(\.counts) }
    var findings: [String] { state.withLock(\.findings) }

    /// Before the first attempt.
    func note(sending body: LoadBody) {
        state.withLock { state in
            state.counts.bodies += 1
            for event in body.events where state.entries[event.name] == nil {
                state.entries[event.name] = Entry(name: event.name, fate: event.fate)
            }
        }
    }

    /// - Parameter status: `nil` where the connection broke.
    func note(attempt status: Int?) {
        state.withLock { $0.counts.attempts[status, default: 0] += 1 }
    }

    func note(finding: String) {
        state.withLock { $0.findings.append(finding) }
    }

    /// After a 2xx to an attempt that began at `start`.
    func note(_ verdicts: [Verdict], of body: LoadBody, attemptedAt start: ContinuousClock.Instant) {
        guard verdicts.count == body.events.count else {
            return note(finding: "\(body.events.count) events were answered by \(verdicts.count) verdicts")
        }
        let acknowledged = state.withLock { state in
            for (event, verdict) in zip(body.events, verdicts) {
                var entry = state.entries[event.name] ?? Entry(name: event.name, fate: event.fate)
                if let problem = entry.note(verdict) { state.findings.append("\(event.name) \(problem)") }
                if !entry.isAcknowledged { state.counts.acknowledgedEvents += 1 }
                entry.isAcknowledged = true
                state.entries[event.name] = entry
            }
            return state.counts.acknowledgedEvents
        }
        progress.update { progress in
            progress.acknowledgedEvents = max(progress.acknowledgedEvents, acknowledged)
            if let recovery = progress.recovery, recovery.firstAcknowledged == nil, start > recovery.since {
                progress.recovery?.firstAcknowledged = .now
            }
        }
    }

    /// Waits until `number` further events are acknowledged; false when they are not in time.
    ///
    /// Throws `CancellationError`.
    func waitForEvents(_ number: Int, within deadline: Duration) async throws -> Bool {
        let goal = progress.value.acknowledgedEvents + number
        return try await wait(within: deadline) { $0.acknowledgedEvents >= goal }
    }

    /// The moment of the first acknowledgement of an attempt that begins after now; `nil` when there is none in time.
    ///
    /// Throws `CancellationError`.
    func waitForRecovery(within deadline: Duration) async throws -> ContinuousClock.Instant? {
        progress.update { $0.recovery = Recovery(since: .now) }
        _ = try await wait(within: deadline) { $0.recovery?.firstAcknowledged != nil }
        return progress.value.recovery?.firstAcknowledged
    }

    private func wait(
        within deadline: Duration, until isSatisfied: @escaping @Sendable (Progress) -> Bool
    ) async throws -> Bool {
        let isInTime = await withTaskCancellationHandler {
            await progress.wait(within: deadline) { $0.isCancelled || isSatisfied($0) }
        } onCancel: {
            progress.update { $0.isCancelled = true }
        }
        try Task.checkCancellation()
        return isInTime
    }
}

extension LoadRecord.Entry {
    /// Takes an answer; what is wrong with it, or `nil`.
    mutating func note(_ verdict: Verdict) -> String? {
        switch (fate, verdict) {
        case (.stored, .stored(let id)):
            storedAnswers += 1
            return storedAnswers > 1 ? "was answered as stored \(storedAnswers) times" : note(logID: id)
        case (.stored, .duplicate(let id)):
            return note(logID: id)
        case (.quarantined(let expected), .quarantined(let reason)) where expected == reason:
            return nil
        default:
            return "must be \(fate) and was answered \(verdict)"
        }
    }

    private mutating func note(logID id: Int64) -> String? {
        let first = logID ?? id
        logID = first
        return first == id ? nil : "was answered with the log_ids \(first) and \(id)"
    }
}
