import Domain
import HTTPSupport
import Hummingbird
import LiteLLM
import Logging
import NIOCore
import Postgres
import Storage

/// `POST /api/webhook/litellm`: bytes → events → verdicts → one transaction → answer.
struct WebhookController: Sendable {
    let reader: BodyReader
    let queue: GroupCommit
    let pool: ConnectionPool
    let retention: Duration
    let errorText: ErrorText
    let now: @Sendable () -> Timestamp

    /// Stores what the body holds and answers after COMMIT.
    ///
    /// - Throws: ``AppError`` `.tooLarge`, or `.unavailable` when nothing was acknowledged.
    @Sendable
    func receive(_ request: Request, context: AppRequestContext) async throws -> Response {
        let arrival = Arrival(
            at: now(), retention: retention, errorText: errorText,
            idempotencyKey: request.headers[.idempotencyKey])
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
        let missing = try await record(SpoolPart(of: request, count: verdicts.count))
        let answer = WebhookAnswer(body.form, verdicts, missing: missing)
        return Response(status: answer.status, json: ByteBuffer(string: answer.body))
    }

    /// Notes the numbers of what was stored, if its sender numbers it; what is missing is the sender's to send again.
    private func record(_ part: SpoolPart?) async throws -> [ClosedRange<Int64>] {
        guard let part else { return [] }
        let now = now()
        do {
            return try await pool.withConnection { try Spools.record(part, $0, now: now) }
        } catch let error as PostgresError {
            // Stored all the same: sent again, it is a duplicate.
            throw AppError(error) ?? error
        }
    }

    private func note(_ verdicts: [Verdict], in context: AppRequestContext) {
        let counts = VerdictCounts(verdicts)
        counts.record(verdicts)
        for (name, count) in counts.all { context.log[name] = "\(count)" }
    }
}

extension SpoolPart {
    /// What a request says of the sender's spool, if it does.
    fileprivate init?(of request: Request, count: Int) {
        guard let spool = request.headers[.spool], let first = request.headers[.spoolFirst].flatMap(Int64.init)
        else { return nil }
        self.init(
            spool: spool, first: first, count: count, lost: request.headers[.spoolLost].flatMap(Int64.init) ?? 0)
    }
}
