package import Bootstrap
internal import Domain
package import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore
internal import Logging
package import NIOCore
internal import Synchronization

/// A route whose requests stay on the event loop of their connection, from the socket to the answer.
///
/// No task, actor or continuation takes part (`docs/decisions/0014-a-lane-for-the-webhook.md`). A request passes the
/// same checks as one of the router, and its answer has the same headers.
package struct Lane: Sendable {
    /// Makes what answers the requests of one event loop.
    package typealias MakeResponder = @Sendable (any EventLoop) -> any LaneResponder

    let keys: WebhookKeys
    let bodies: BodyReader
    let write: LineBuffer.Write?
    let makeResponder: MakeResponder
    private let loops = LaneLoops()

    /// - Parameters:
    ///   - keys: The keys of senders.
    ///   - bodies: The bounds of request bodies.
    ///   - write: Takes the lines of the access log; `nil` for none.
    ///   - makeResponder: Makes what answers the requests of one event loop.
    package init(
        keys: WebhookKeys, bodies: BodyReader, write: LineBuffer.Write?, makeResponder: @escaping MakeResponder
    ) {
        self.keys = keys
        self.bodies = bodies
        self.write = write
        self.makeResponder = makeResponder
    }

    /// Writes the lines of the access log that wait for the end of their loop's tick.
    package func flush() async {
        for loop in loops.all {
            _ = try? await loop.eventLoop.submit { loop.value.flushLines() }.get()
        }
    }

    /// The state of `eventLoop`, on that loop.
    func loop(_ eventLoop: any EventLoop, _ server: LaneServer) -> LaneLoop {
        loops.loop(eventLoop) { LaneLoop(eventLoop, self, server) }
    }
}

/// What answers the requests of a lane on one event loop. It is used on that loop only.
package protocol LaneResponder: AnyObject {
    /// Takes a request whose body is complete. It calls ``LaneRequest/answer(_:)`` or ``LaneRequest/fail(_:)`` once, at
    /// any time.
    func respond(to request: LaneRequest)
}

/// The answer to a request of a lane: finished JSON.
package struct LaneAnswer {
    let status: HTTPResponse.Status
    let body: String
    /// The headers besides those that every answer has.
    var headers: HTTPFields

    /// An answer of Laravel's media type.
    package init(_ status: HTTPResponse.Status, _ body: String) {
        self.init(status, body, headers: [.contentType: "application/json"])
    }

    init(_ status: HTTPResponse.Status, _ body: String, headers: HTTPFields) {
        self.status = status
        self.body = body
        self.headers = headers
    }
}

/// What a lane has from its server.
struct LaneServer: Sendable {
    /// The program's name.
    let name: String
    /// The path of the route.
    let path: String
    let idleTimeout: Duration
    let clients: ClientChecks
    let headers: HeadersMiddleware
    let errorShape: ErrorShape
    let logger: Logger

    /// The path of a request to the route, as the router understands paths; `nil` for another request.
    func path(of target: String) -> String? {
        if target == path { return path }
        let given = URI(target).path
        return given.split(separator: "/") == path.split(separator: "/") ? given : nil
    }
}

/// The state of a lane on each event loop.
private final class LaneLoops: Sendable {
    private let loops = Mutex<[ObjectIdentifier: NIOLoopBound<LaneLoop>]>([:])

    var all: [NIOLoopBound<LaneLoop>] { loops.withLock { Array($0.values) } }

    func loop(_ eventLoop: any EventLoop, _ make: () -> LaneLoop) -> LaneLoop {
        let known = loops.withLock { $0[ObjectIdentifier(eventLoop)] }
        if let known { return known.value }
        let new = NIOLoopBound(make(), eventLoop: eventLoop)
        loops.withLock { $0[ObjectIdentifier(eventLoop)] = new }
        return new.value
    }
}
