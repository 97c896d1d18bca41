import CoreMetrics
import Domain
import HTTPSupport
import HTTPTypes
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

    /// Stores the events of the body and answers after COMMIT.
    ///
    /// - Throws: ``AppError`` `.tooLarge`, or `.unavailable` when nothing was acknowledged.
    @Sendable
    func receiveEvents(_ request: Request, context: AppRequestContext) async throws -> Response {
        let arrival = Arrival(
            at: now(), retention: retention, errorText: errorText,
            idempotencyKey: request.headers[.idempotencyKey])
        // The body's memory is freed before the wait for COMMIT.
        let body = try await reader.withBody(of: request, context: context) { bytes in
            EventParser.parse(UnsafeRawBufferPointer(bytes), arrival: arrival)
        }
        // The body is refused before anything is stored, so it can be sent again in parts.
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

    /// Records the numbers of the stored events, if the sender numbers them. Returns the missing numbers.
    private func record(_ part: SpoolPart?) async throws -> [ClosedRange<Int64>] {
        guard let part else { return [] }
        let now = now()
        do {
            return try await pool.withConnection { try Spools.record(part, $0, now: now) }
        } catch let error as PostgresError {
            // The events are stored. If they are sent again, they are duplicates.
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
    /// The part of the sender's spool that the headers of a request state; `nil` without them.
    fileprivate init?(of request: Request, count: Int) {
        guard let spool = request.headers[.spool], let first = request.headers[.spoolFirst].flatMap(Int64.init)
        else { return nil }
        self.init(
            spool: spool, first: first, count: count, lost: request.headers[.spoolLost].flatMap(Int64.init) ?? 0)
    }
}

/// The answer to the sender of a body, after COMMIT (`docs/api.md`).
struct WebhookAnswer: Hashable {
    let status: HTTPResponse.Status
    /// The JSON text. It has only numbers and our own words, so nothing needs an escape.
    let body: String

    /// The answer to a body whose events got `verdicts`, and whose spool has the `missing` numbers.
    init(_ form: ParsedBody.Form, _ verdicts: [Verdict], missing: [ClosedRange<Int64>] = []) {
        switch form {
        case .documented: self.init(documented: verdicts.first ?? .quarantined(.unreadable))
        case .events: self.init(events: verdicts, missing: missing)
        }
    }

    private init(status: HTTPResponse.Status, body: String) {
        self.status = status
        self.body = body
    }

    /// Laravel's answers for one documented event (`docs/laravel.md`). Laravel does not know 202, which means that the
    /// event is quarantined.
    private init(documented verdict: Verdict) {
        self =
            switch verdict {
            case .stored(let id):
                .init(status: .created, body: #"{"success":true,"log_id":\#(id)}"#)
            case .duplicate(let id):
                .init(status: .ok, body: #"{"success":true,"log_id":\#(id),"duplicate":true}"#)
            case .conflict(let id):
                .init(status: .ok, body: #"{"success":true,"log_id":\#(id),"conflict":true}"#)
            case .quarantined(.unreadable), .quarantined(.missingIdentity):
                .init(status: .badRequest, body: #"{"error":"user_id is required"}"#)
            case .quarantined(.unknownKey), .quarantined(.unknownUser):
                .init(status: .notFound, body: #"{"error":"User not found"}"#)
            case .quarantined(let reason):
                .init(
                    status: .accepted,
                    body: #"{"success":true,"quarantined":true,"reason":"\#(reason.rawValue)"}"#)
            }
    }

    private init(events verdicts: [Verdict], missing: [ClosedRange<Int64>]) {
        let counts = VerdictCounts(verdicts)
        let results = verdicts.enumerated().map { index, verdict in
            let outcome =
                switch verdict {
                case .stored(let id), .duplicate(let id), .conflict(let id): #""log_id":\#(id)"#
                case .quarantined(let reason): #""reason":"\#(reason.rawValue)""#
                }
            return #"{"index":\#(index),"status":"\#(verdict.name)",\#(outcome)}"#
        }
        let ranges = missing.map { "[\($0.lowerBound),\($0.upperBound)]" }.joined(separator: ",")
        self.init(
            status: .ok,
            body: """
                {"success":true,"stored":\(counts.stored),"duplicates":\(counts.duplicates),\
                "conflicts":\(counts.conflicts),"quarantined":\(counts.quarantined),\
                \(missing.isEmpty ? "" : "\"missing\":[\(ranges)],")\
                "results":[\(results.joined(separator: ","))]}
                """)
    }
}

/// The verdicts of a body, counted for its answer, its log line and the metrics.
struct VerdictCounts: Hashable {
    private(set) var stored = 0
    private(set) var duplicates = 0
    private(set) var conflicts = 0
    private(set) var quarantined = 0

    init(_ verdicts: [Verdict]) {
        for verdict in verdicts {
            switch verdict {
            case .stored: stored += 1
            case .duplicate: duplicates += 1
            case .conflict: conflicts += 1
            case .quarantined: quarantined += 1
            }
        }
    }

    /// The name and number of each verdict, for the access log.
    var all: KeyValuePairs<String, Int> {
        ["stored": stored, "duplicates": duplicates, "conflicts": conflicts, "quarantined": quarantined]
    }

    private static let counters = VerdictCounts([]).all.map { name, _ in
        Counter(label: "webhook_events_total", dimensions: [("verdict", name)])
    }

    /// Adds to `webhook_events_total{verdict}` and `webhook_quarantined_total{reason}`.
    func record(_ verdicts: [Verdict]) {
        for (counter, (_, count)) in zip(Self.counters, all) where count > 0 { counter.increment(by: count) }
        for case .quarantined(let reason) in verdicts {
            Counter(label: "webhook_quarantined_total", dimensions: [("reason", reason.rawValue)]).increment()
        }
    }
}

extension Verdict {
    /// The verdict's word in `results` of the answer.
    var name: String {
        switch self {
        case .stored: "stored"
        case .duplicate: "duplicate"
        case .conflict: "conflict"
        case .quarantined: "quarantined"
        }
    }
}
