import Domain
import HTTPSupport
import Hummingbird
import LiteLLM
import Logging
import NIOCore
import Storage

/// `POST /api/webhook/litellm`: bytes → events → verdicts → one transaction → answer.
struct WebhookController: Sendable {
    let reader: BodyReader
    let queue: GroupCommit
    let retention: Duration
    let now: @Sendable () -> Timestamp

    /// Stores what the body holds and answers after COMMIT.
    ///
    /// - Throws: ``AppError`` `.tooLarge`, or `.unavailable` when nothing was acknowledged.
    @Sendable
    func receive(_ request: Request, context: AppRequestContext) async throws -> Response {
        let arrival = Arrival(
            at: now(), retention: retention, idempotencyKey: request.headers[.idempotencyKey])
        // The body's memory is free again before the commit is waited for.
        let body = try await reader.withBody(of: request, context: context) { bytes in
            EventParser.parse(UnsafeRawBufferPointer(bytes), arrival: arrival)
        }
        // Before anything is stored: a refused body can be sent again in parts.
        guard body.results.count <= EventParser.maximumEvents else {
            throw AppError(.tooLarge, "A body has at most \(EventParser.maximumEvents) events. Send it in parts.")
        }
        let verdicts = try await queue.submit(
            body.results.map { IngestItem($0, isRefusedWhenUnknown: body.form == .documented) })
        note(verdicts, in: context)
        let answer = WebhookAnswer(body.form, verdicts)
        return Response(status: answer.status, json: ByteBuffer(string: answer.body))
    }

    private func note(_ verdicts: [Verdict], in context: AppRequestContext) {
        let counts = VerdictCounts(verdicts)
        counts.record(verdicts)
        for (name, count) in counts.all { context.log[name] = "\(count)" }
    }
}
