import Bootstrap
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import NIOCore
import Synchronization
import Testing

/// How a route is answered. What a client sees must be the same.
enum RouteKind: CaseIterable {
    case router, lane
}

/// A server with the route `POST /api/sum`, which answers `LENGTH SUM` of its body, after the webhook's checks.
struct LaneBench {
    static let key = "test-webhook-key-of-more-than-32-characters"

    let kind: RouteKind
    var server = TestServer(errorShape: .webhook)
    var limit = 1 << 20
    var budget = ByteBudget()
    var deadline = Duration.seconds(120)
    /// The route answers once the gate is open.
    let gate = Gate(isOpen: true)
    private let lines = Lines()

    init(_ kind: RouteKind) {
        self.kind = kind
    }

    var route: HTTPRoute {
        let keys = WebhookKeys(current: Secret(Self.key))
        let bodies = BodyReader(limit: limit, budget: budget, deadline: deadline)
        switch kind {
        case .lane:
            return HTTPRoute(
                "/api/sum",
                Lane(keys: keys, bodies: bodies, write: lines.add) { [gate] in SumResponder($0, gate) })
        case .router:
            return HTTPRoute(.post, "/api/sum", .webhookKey(keys)) { [gate] request, context in
                let text = try await bodies.withBody(of: request, context: context) { Self.sum(.init($0)) }
                await gate.wait()
                context.log["a_fact"] = "1"
                context.log["words"] = "a b"
                return Response(status: .ok, json: ByteBuffer(string: text))
            }
        }
    }

    fileprivate static func sum(_ bytes: UnsafeRawBufferPointer) -> String {
        "\(bytes.count) \(bytes.reduce(0) { $0 &+ Int($1) })"
    }

    /// Runs `body` with the port of the running server.
    func run<T: Sendable>(
        _ setup: TestingSetup = .live, _ body: @Sendable (Int) async throws -> T
    ) async throws -> T {
        try await server.test(setup, routes: [route]) { try await body(try #require($0.port)) }
    }

    /// Runs `body` on one connection to the running server.
    func connected<T: Sendable>(_ body: @Sendable (RawConnection) async throws -> T) async throws -> T {
        try await run { try await RawConnection.run(port: $0, body) }
    }

    /// The lines of the access log of `/api/sum`, without what differs in each run.
    var requestLines: [[String: String]] {
        let fields: [[String: String]] =
            switch kind {
            case .lane: lines.all.map(Self.fields)
            case .router: server.requestLines.map { $0.mapValues(\.description) }
            }
        return fields.map { $0.filter { !["hb.request.id", "duration_ms", "client"].contains($0.key) } }
            .filter { $0["path"]?.contains("sum") == true }
    }

    /// The lines as they were written.
    var writtenLines: [String] { lines.all }

    private static func fields(_ line: String) -> [String: String] {
        var fields: [String: String] = [:]
        for pair in line.matches(of: /([a-z_.]+)=("[^"]*"|[^ ]*)/) {
            fields[String(pair.output.1)] = String(pair.output.2).replacing("\"", with: "")
        }
        return fields
    }

    /// The bytes of a request with a body, which is sent with its length unless `headers` say how it is sent.
    static func post(
        _ body: String = "ab", to path: String = "/api/sum", key: String? = LaneBench.key, headers: [String] = []
    ) -> String {
        let isFramed = headers.contains { $0.hasPrefix("Content-Length") || $0.hasPrefix("Transfer-Encoding") }
        let own = ["Host: x"] + (key.map { ["X-API-Key: \($0)"] } ?? [])
        let length = isFramed ? [] : ["Content-Length: \(body.utf8.count)"]
        let lines = ["POST \(path) HTTP/1.1"] + own + length + headers
        return lines.joined(separator: "\r\n") + "\r\n\r\n" + body
    }

    static let health = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"

    /// The status codes of the answers in `text`, in order.
    static func statuses(_ text: String) -> [String] {
        text.matches(of: #/HTTP/1\.1 (\d+) /#).map { String($0.1) }
    }
}

/// Holds answers back until a test lets them go.
final class Gate: Sendable {
    private struct State {
        var isOpen: Bool
        var waiting: [@Sendable () -> Void] = []
    }

    private let state: Mutex<State>

    init(isOpen: Bool) {
        state = Mutex(State(isOpen: isOpen))
    }

    var waiting: Int { state.withLock { $0.waiting.count } }

    func close() { state.withLock { $0.isOpen = false } }

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for pass in waiting { pass() }
    }

    /// Calls `pass` once the gate is open.
    func whenOpen(_ pass: @escaping @Sendable () -> Void) {
        let isOpen = state.withLock { state in
            if !state.isOpen { state.waiting.append(pass) }
            return state.isOpen
        }
        if isOpen { pass() }
    }

    func wait() async {
        await withCheckedContinuation { continuation in whenOpen { continuation.resume() } }
    }
}

/// The route's answer on an event loop.
private final class SumResponder: LaneResponder {
    private let eventLoop: any EventLoop
    private let gate: Gate

    init(_ eventLoop: any EventLoop, _ gate: Gate) {
        self.eventLoop = eventLoop
        self.gate = gate
    }

    func respond(to request: LaneRequest) {
        request.withBody({ LaneBench.sum($0) }, elsewhere: { LaneBench.sum($0) }) { [eventLoop, gate] text in
            let answer = NIOLoopBound(request, eventLoop: eventLoop)
            gate.whenOpen {
                eventLoop.execute {
                    answer.value.facts = [("a_fact", "1"), ("words", "a b")]
                    answer.value.answer(LaneAnswer(.ok, text))
                }
            }
        }
    }
}

/// Lines of a log.
private final class Lines: Sendable {
    private let text = Mutex("")

    var all: [String] { text.withLock { $0.split(separator: "\n").map(String.init) } }

    func add(_ bytes: UnsafeRawBufferPointer) { text.withLock { $0 += String(decoding: bytes, as: UTF8.self) } }
}
