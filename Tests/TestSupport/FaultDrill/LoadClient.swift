internal import AsyncHTTPClient
internal import Domain
internal import Foundation
internal import NIOCore
internal import NIOHTTP1

/// A sender that, like LiteLLM with `max_retries`, posts the identical body again until it is acknowledged.
struct LoadClient: Sendable {
    private static let deliveryDeadline = Duration.seconds(120)

    let number: Int
    let http: HTTPClient
    let processes: WebhookProcesses
    let record: LoadRecord

    /// An HTTP client that fails at once where nobody listens.
    static func makeHTTPClient() -> HTTPClient {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.retryConnectionEstablishment = false
        // The default of 8 would make every larger number of clients 8.
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 512
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    /// Sends bodies until `isStopped`; what was sent is acknowledged then.
    ///
    /// One body in twenty is sent again after its acknowledgement, and one in twenty twice at once.
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

    /// Posts until a 2xx; `isRepeated` says that another delivery of the body may have stored it.
    private func deliver(_ body: LoadBody, isRepeated: Bool = false) async {
        let payload = ByteBuffer(string: body.text)
        let deadline = ContinuousClock.now + Self.deliveryDeadline
        var failures = 0
        /// Whether all that went wrong is connections that a process closed when it was asked to stop.
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
                return judge(body, answer, attemptedAt: start, isTakenUnanswered: failures > 0 && isOnlyUnanswered)
            }
            isOnlyUnanswered = isOnlyUnanswered && answer == nil && processes.isTerminated(endpoint)
            failures += 1
            try? await Task.sleep(for: .milliseconds(Int.random(in: 1...min(100, 4 << min(failures, 5)))))
        }
        if !Task.isCancelled {
            record.note(finding: "a body was not acknowledged within \(Self.deliveryDeadline)")
        }
    }

    /// Takes a 2xx; `isTakenUnanswered` says that, if the body was stored before, a process did so that was asked to
    /// stop.
    private func judge(
        _ body: LoadBody, _ answer: LoadAnswer, attemptedAt start: ContinuousClock.Instant, isTakenUnanswered: Bool
    ) {
        guard let verdicts = try? answer.verdicts(of: body.form) else {
            return record.note(finding: "a body was answered \(answer.status) in words that are not documented")
        }
        if isTakenUnanswered, case .duplicate = verdicts.first {
            record.note(finding: "a process that was asked to stop stored a body and did not answer it")
        }
        record.note(verdicts, of: body, attemptedAt: start)
    }

    /// The answer to one attempt. Throws what AsyncHTTPClient throws where there is none.
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
