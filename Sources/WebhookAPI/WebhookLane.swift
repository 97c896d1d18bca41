import Domain
import HTTPSupport
import HTTPTypes
import LiteLLM
import NIOCore
import Postgres
import Storage

/// What `POST /api/webhook/litellm` needs on every event loop.
struct Webhook: Sendable {
    let queue: GroupCommit
    let pool: ConnectionPool
    let retention: Duration
    let errorText: ErrorText
    let now: @Sendable () -> Timestamp

    /// Records the numbers of stored events. Returns the missing numbers.
    ///
    /// - Throws: ``AppError`` `.unavailable`; ``PostgresError``. The events are stored then. Sent again, they are
    ///   duplicates.
    func record(_ part: SpoolPart) async throws -> [ClosedRange<Int64>] {
        let now = now()
        do {
            return try await pool.withConnection { try Spools.record(part, $0, now: now) }
        } catch let error as PostgresError {
            throw AppError(error) ?? error
        }
    }
}

/// `POST /api/webhook/litellm` on one event loop: bytes → events → verdicts → one transaction → answer.
///
/// The requests of one tick of the loop are queued together, and the answers of one transaction come back together. So
/// a batch costs each loop one wakeup.
final class WebhookLane: LaneResponder {
    /// A request whose events are queued.
    private struct Waiting {
        let request: LaneRequest
        let form: ParsedBody.Form
    }

    private let webhook: Webhook
    private let eventLoop: any EventLoop
    private let parser = EventParser()
    private var waiting: [Int: Waiting] = [:]
    private var lastTicket = 0
    /// The submissions of this tick.
    private var submissions: [Submission] = []
    private lazy var receiver = LoopReceiver(self, eventLoop)

    init(_ webhook: Webhook, on eventLoop: any EventLoop) {
        self.webhook = webhook
        self.eventLoop = eventLoop
    }

    func respond(to request: LaneRequest) {
        let arrival = Arrival(
            at: webhook.now(), retention: webhook.retention, errorText: webhook.errorText,
            idempotencyKey: request[.idempotencyKey])
        request.withBody { bytes in
            parser.parse(bytes, padding: LaneRequest.padding, arrival: arrival)
        } elsewhere: { bytes in
            EventParser().parse(bytes, padding: LaneRequest.padding, arrival: arrival)
        } then: { [self] body in
            queue(body, of: request)
        }
    }

    private func queue(_ body: ParsedBody, of request: LaneRequest) {
        // The body is refused before anything is stored, so it can be sent again in parts.
        guard body.results.count <= EventParser.maximumEvents else {
            let text = "A body has at most \(EventParser.maximumEvents) events. Send it in parts."
            return request.fail(AppError(.tooLarge, text))
        }
        guard !body.results.isEmpty else { return answer(request, body.form, []) }
        let items = body.results.map { IngestItem($0, isRefusedWhenUnknown: body.form == .documented) }
        lastTicket += 1
        waiting[lastTicket] = Waiting(request: request, form: body.form)
        if submissions.isEmpty { eventLoop.assumeIsolated().execute { self.submit() } }
        submissions.append(Submission(items, ticket: lastTicket, receiver: receiver))
    }

    private func submit() {
        let all = submissions
        submissions.removeAll(keepingCapacity: true)
        webhook.queue.submit(all)
    }

    /// Takes the answers that one transaction made.
    fileprivate func receive(_ answers: [Submission.Answer]) {
        for answer in answers {
            guard let waiting = waiting.removeValue(forKey: answer.ticket) else { continue }
            switch answer.result {
            case .success(let verdicts): self.answer(waiting.request, waiting.form, verdicts)
            case .failure(let error): waiting.request.fail(error)
            }
        }
    }

    private func answer(_ request: LaneRequest, _ form: ParsedBody.Form, _ verdicts: [Verdict]) {
        let counts = VerdictCounts(verdicts)
        counts.record(verdicts)
        request.facts = counts.all.map { ($0, String($1)) }
        if let part = SpoolPart(count: verdicts.count, { request[$0] }) {
            record(part) { result in
                switch result {
                case .success(let missing): request.answer(LaneAnswer(form, verdicts, missing: missing))
                case .failure(let error): request.fail(error)
                }
            }
        } else {
            request.answer(LaneAnswer(form, verdicts, missing: []))
        }
    }

    private func record(_ part: SpoolPart, then: @escaping (Result<[ClosedRange<Int64>], any Error>) -> Void) {
        let back = NIOLoopBound(then, eventLoop: eventLoop)
        Task { [webhook, eventLoop] in
            let result: Result<[ClosedRange<Int64>], any Error>
            do { result = .success(try await webhook.record(part)) } catch { result = .failure(error) }
            eventLoop.execute { back.value(result) }
        }
    }
}

extension LaneAnswer {
    fileprivate init(_ form: ParsedBody.Form, _ verdicts: [Verdict], missing: [ClosedRange<Int64>]) {
        let answer = WebhookAnswer(form, verdicts, missing: missing)
        self.init(answer.status, answer.body)
    }
}

extension SpoolPart {
    /// The part of the sender's spool that a request's headers state; `nil` without them. `header` reads one of them.
    init?(count: Int, _ header: (HTTPField.Name) -> String?) {
        guard let spool = header(.spool), let first = header(.spoolFirst).flatMap(Int64.init) else { return nil }
        self.init(spool: spool, first: first, count: count, lost: header(.spoolLost).flatMap(Int64.init) ?? 0)
    }
}

/// Brings the answers of a transaction to their event loop, with one wakeup.
private final class LoopReceiver: AnswerReceiver {
    private struct Lane {
        weak var lane: WebhookLane?
    }

    private let eventLoop: any EventLoop
    private let lane: NIOLoopBound<Lane>

    init(_ lane: WebhookLane, _ eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        self.lane = NIOLoopBound(Lane(lane: lane), eventLoop: eventLoop)
    }

    func receive(_ answers: [Submission.Answer]) {
        eventLoop.execute { [lane] in lane.value.lane?.receive(answers) }
    }
}
