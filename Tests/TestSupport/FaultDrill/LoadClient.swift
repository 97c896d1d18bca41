internal import AsyncHTTPClient
internal import Domain
internal import Foundation
internal import NIOCore
internal import NIOHTTP1
internal import Synchronization

/// A client that posts a body until it is acknowledged, like LiteLLM with `max_retries`.
struct LoadClient: Sendable {
    private static let deliveryDeadline = Duration.seconds(120)

    let number: Int
    let http: HTTPClient
    let processes: WebhookProcesses
    let record: LoadRecord

    /// An HTTP client that fails at once if no process listens.
    static func makeHTTPClient() -> HTTPClient {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.retryConnectionEstablishment = false
        // The default of 8 would limit the number of clients.
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 512
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    /// Sends bodies until `isStopped`. All sent bodies are then acknowledged.
    ///
    /// One body in twenty is sent again after its acknowledgement, and one in twenty is sent twice at the same time.
    func run(_ generator: LoadGenerator, until isStopped: @Sendable () -> Bool) async {
        var generator = generator
        while !isStopped(), !Task.isCancelled {
            let body = generator.body(now: .now)
            record.note(sending: body)
            switch generator.number(in: 0...19) {
            case 0:
                await deliver(body)
                await deliver(body, isRepeated: true)
            case 1:
                async let other: Void = deliver(body, isRepeated: true)
                await deliver(body, isRepeated: true)
                await other
            default:
                await deliver(body)
            }
            try? await Task.sleep(for: .milliseconds(generator.number(in: 0...20)))
        }
    }

    /// Posts until the answer is a 2xx. `isRepeated` means that another delivery of the body may have stored it.
    private func deliver(_ body: LoadBody, isRepeated: Bool = false) async {
        let payload = ByteBuffer(string: body.text)
        let deadline = ContinuousClock.now + Self.deliveryDeadline
        var failures = 0
        // Whether all failures are connections that a stopping process closed.
        var isOnlyUnanswered = !isRepeated
        while ContinuousClock.now < deadline, !Task.isCancelled {
            let endpoint = processes.endpoint(number + failures)
            let start = ContinuousClock.now
            let answer = try? await post(payload, body.form, to: endpoint)
            record.note(attempt: answer?.status)
            if let answer, answer.isRefused {
                return record.note(finding: "a body was refused with \(answer.status)")
            }
            if let answer, answer.isAcknowledged {
                return take(body, answer, attemptedAt: start, isTakenUnanswered: failures > 0 && isOnlyUnanswered)
            }
            isOnlyUnanswered = isOnlyUnanswered && answer == nil && processes.isTerminated(endpoint)
            failures += 1
            try? await Task.sleep(for: .milliseconds(Int.random(in: 1...min(100, 4 << min(failures, 5)))))
        }
        if !Task.isCancelled {
            record.note(finding: "a body was not acknowledged within \(Self.deliveryDeadline)")
        }
    }

    /// Records a 2xx. `isTakenUnanswered` means that only a stopping process can have stored the body before.
    private func take(
        _ body: LoadBody, _ answer: LoadAnswer, attemptedAt start: ContinuousClock.Instant, isTakenUnanswered: Bool
    ) {
        guard let verdicts = try? answer.verdicts(of: body.form) else {
            return record.note(finding: "a body was answered \(answer.status) in an undocumented form")
        }
        if isTakenUnanswered, case .duplicate = verdicts.first {
            record.note(finding: "a process that was asked to stop stored a body and did not answer it")
        }
        record.note(verdicts, of: body, attemptedAt: start)
    }

    /// The answer to one attempt.

    ///

    /// - Throws: What AsyncHTTPClient throws when there is none.
    private func post(
        _ payload: ByteBuffer, _ form: LoadBody.Form, to endpoint: WebhookProcesses.Endpoint
    ) async throws -> LoadAnswer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(endpoint.port)/api/webhook/litellm")
        request.method = .POST
        request.headers = ["Content-Type": "application/json", "X-API-Key": processes.key]
        if case .documented(let idempotencyKey) = form {
            request.headers.add(name: "Idempotency-Key", value: idempotencyKey)
        }
        request.body = .bytes(payload)
        let response = try await http.execute(request, timeout: .seconds(30))
        let bytes = try await response.body.collect(upTo: 1 << 20)
        return LoadAnswer(status: Int(response.status.code), body: Data(bytes.readableBytesView))
    }
}

/// The answer to one attempt.
struct LoadAnswer: Sendable {
    /// An answer in an undocumented form.
    struct Malformed: Error {}

    let status: Int
    let body: Data

    var isAcknowledged: Bool { (200..<300).contains(status) }
    /// Whether LiteLLM would give up after it.
    var isRefused: Bool { (400..<500).contains(status) }

    /// The verdicts of the events of a body of this form, in order.

    ///

    /// - Throws: ``Malformed`` when the answer has another form; what decoding throws.
    func verdicts(of form: LoadBody.Form) throws -> [Verdict] {
        switch form {
        case .array: try JSONDecoder().decode(ArrayAnswer.self, from: body).verdicts
        case .documented: [try JSONDecoder().decode(DocumentedAnswer.self, from: body).verdict]
        }
    }
}

private struct ArrayAnswer: Decodable {
    struct Result: Decodable {
        var index: Int
        var status: String
        var log_id: Int64?
        var reason: QuarantineReason?
    }

    var results: [Result]

    var verdicts: [Verdict] {
        get throws {
            try results.enumerated().map { index, result in
                switch (result.status, result.log_id, result.reason) {
                case ("stored", let id?, _) where result.index == index: .stored(logID: id)
                case ("duplicate", let id?, _) where result.index == index: .duplicate(logID: id)
                case ("conflict", let id?, _) where result.index == index: .conflict(logID: id)
                case ("quarantined", _, let reason?) where result.index == index: .quarantined(reason)
                default: throw LoadAnswer.Malformed()
                }
            }
        }
    }
}

private struct DocumentedAnswer: Decodable {
    var log_id: Int64?
    var duplicate: Bool?
    var conflict: Bool?
    var reason: QuarantineReason?

    var verdict: Verdict {
        get throws {
            switch (log_id, reason) {
            case (let id?, nil) where duplicate == true: .duplicate(logID: id)
            case (let id?, nil) where conflict == true: .conflict(logID: id)
            case (let id?, nil): .stored(logID: id)
            case (nil, let reason?): .quarantined(reason)
            default: throw LoadAnswer.Malformed()
            }
        }
    }
}

/// The sent events, their answers, and wrong answers.
package final class LoadRecord: Sendable {
    /// One event, which may have been sent several times.
    package struct Entry: Sendable {
        package let name: String
        package let fate: LoadEvent.Fate
        var isAcknowledged = false
        /// The id in the first answer.
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
        /// Attempts by status, which is `nil` if the connection broke.
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

    /// Records a body before its first attempt.
    func note(sending body: LoadBody) {
        state.withLock { state in
            state.counts.bodies += 1
            for event in body.events where state.entries[event.name] == nil {
                state.entries[event.name] = Entry(name: event.name, fate: event.fate)
            }
        }
    }

    /// Records an attempt. `status` is `nil` if the connection broke.
    func note(attempt status: Int?) {
        state.withLock { $0.counts.attempts[status, default: 0] += 1 }
    }

    func note(finding: String) {
        state.withLock { $0.findings.append(finding) }
    }

    /// Records a 2xx to an attempt that began at `start`.
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

    /// Waits until `number` more events are acknowledged; returns false if they are not in time.
    ///
    /// - Throws: `CancellationError`.
    func waitForEvents(_ number: Int, within deadline: Duration) async throws -> Bool {
        let goal = progress.value.acknowledgedEvents + number
        return try await wait(within: deadline) { $0.acknowledgedEvents >= goal }
    }

    /// Waits for the first acknowledgement of an attempt that begins after now; `nil` if there is none in time.
    ///
    /// - Throws: `CancellationError`.
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
    /// Records an answer, and returns what is wrong with it.
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
