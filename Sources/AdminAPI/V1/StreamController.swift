import Analytics
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import ServiceLifecycle
import Storage

/// `/api/v1/stream`: new logs and totals as they are committed, as server-sent events.
struct StreamController: Sendable {
    let live: LiveHub

    var getStream: Operation {
        Operation(
            "New logs and totals within a second of their commit, as server-sent events: `log` is one log, `totals` "
                + "the usage of today and of this month, `reset` means to read everything again.",
            [
                .query("user_id", .integer(1...Int.max), "Whose. Only administrators may name somebody else."),
                .query("timezone", .zone, "The zone of today and of this month; UTC by default."),
                .query(
                    "last_event_id", .text(4_096),
                    "The `id` of the last event, for clients that cannot send the header Last-Event-ID.",
                    example: "0~1042"),
            ], content: [("text/event-stream", LiveEvent.schema)]
        ) { try await open($0) }
    }

    private func open(_ request: APIRequest) async throws -> APIResponse {
        let (user, subject) = (try request.user, try request.subject)
        let zone = try await zone(of: request)
        let start = try await start(of: request)
        let place = try live.gate.enter(user.id)
        let reader = LiveReader(
            LiveScope(user: subject, zone: zone), caller: user.id, start: start, end: .now + live.limits.lifetime
        ) {
            try await request.mayStillRead(subject)
        }
        var response = APIResponse(
            content: .events { writer in
                // A client that is gone holds no place.
                defer { place.leave() }
                try await stream(reader, of: request.http, to: &writer)
            })
        response.headers[.cacheControl] = "no-store"
        response.headers[.accelBuffering] = "no"
        return response
    }

    /// Where the stream begins. It is known before the answer begins, so that the client gets each log after that.
    private func start(of request: APIRequest) async throws -> LiveReader.Start {
        guard let id = request.lastEventID else { return .after(try await live.mark()) }
        return LogMark(text: id).map { .after($0) } ?? .unknown
    }

    private func zone(of request: APIRequest) async throws -> TimeZoneName {
        guard request.text("timezone") != nil else { return .utc }
        return try await live.database.read { try Period.zone(of: request, $0) }
    }

    private func stream(
        _ reader: LiveReader, of request: Request, to writer: inout any ResponseBodyWriter
    ) async throws {
        try await writer.write(LiveEvent.prelude)
        await live.join(reader)
        do {
            try await request.body.consumeWithInboundCloseHandler { _ in
                try await withGracefulShutdownHandler {
                    try await reader.write(to: &writer)
                } onGracefulShutdown: {
                    reader.end(saying: "the service stops")
                }
            } onInboundClosed: {
                reader.end(saying: "closed")
            }
        } catch {
            await live.leave(reader)
            throw error
        }
        await live.leave(reader)
        try await writer.finish(nil)
    }
}

extension HTTPField.Name {
    /// The last event that a client of a stream has.
    fileprivate static let lastEventID = literal("Last-Event-ID")
    /// Whether nginx collects an answer before it passes it on.
    fileprivate static let accelBuffering = literal("X-Accel-Buffering")

    private static func literal(_ name: String) -> HTTPField.Name {
        guard let field = HTTPField.Name(name) else { preconditionFailure("no field name: \(name)") }
        return field
    }
}

extension APIRequest {
    /// The last event that the client has.
    fileprivate var lastEventID: String? {
        let id = http.headers[.lastEventID] ?? text("last_event_id")
        return id?.isEmpty == true ? nil : id
    }

    /// Whether the caller is still signed in, active, and allowed to see `subject`.
    ///
    /// - Throws: An error that says nothing of it.
    fileprivate func mayStillRead(_ subject: Int64?) async throws -> Bool {
        do {
            guard let caller = try await authenticate(), caller.user.id == (try user.id) else { return false }
            return caller.user.isAdmin || subject == caller.user.id
        } catch let error as AppError where [.unauthorized, .forbidden].contains(error.code) {
            return false
        }
    }
}
