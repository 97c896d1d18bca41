package import Bootstrap
internal import Domain
internal import HTTPTypes
package import Hummingbird
internal import Logging

/// `/health/live` and `/health/ready`: liveness and readiness, as an orchestrator asks for them.
package struct HealthController: Sendable {
    /// Checks everything that the service needs, and returns findings that do not stop it. Throws an `AppError`, whose
    /// message clients may see, or any other error.
    package typealias ReadinessCheck = @Sendable () async throws -> [String]

    private static let fine: JSON = ["status": "ok"]

    private let readiness: Readiness

    /// The routes of `check`. `sleep` waits for a time.
    package init(
        check: @escaping ReadinessCheck,
        sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) },
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        readiness = Readiness(check: check, sleep: sleep, now: now)
    }

    /// Always 200.
    @Sendable
    package func checkLiveness(_ request: Request, _ context: AppRequestContext) -> Response {
        Response(status: .ok, json: Self.fine.buffer)
    }

    /// 200, with findings where there are any; or 503 with reasons.
    @Sendable
    package func checkReadiness(_ request: Request, _ context: AppRequestContext) async -> Response {
        switch await readiness.state(context.logger) {
        case .ready([]): return Response(status: .ok, json: Self.fine.buffer)
        case .ready(let findings):
            let answer: JSON = ["findings": .array(findings.map(JSON.string)), "status": "ok"]
            return Response(status: .ok, json: answer.buffer)
        case .unavailable(let reason):
            let answer: JSON = ["reasons": [.string(reason)], "status": "unavailable"]
            return Response(status: .serviceUnavailable, json: answer.buffer)
        }
    }
}

/// The result of the last readiness check. However often it is asked, the check runs at most four times a second, and
/// never twice at a time.
private actor Readiness {
    /// The state, in words that anyone may read.
    enum State: Sendable {
        case ready([String])
        case unavailable(String)
    }

    /// The timeout of the check.
    private static let limit = Duration.seconds(2)
    /// How long a result is used.
    private static let lifetime = Duration.milliseconds(250)

    private let check: HealthController.ReadinessCheck
    private let sleep: @Sendable (Duration) async throws -> Void
    private let now: @Sendable () -> ContinuousClock.Instant
    private var running: Task<State, Never>?
    private var last: (state: State, end: ContinuousClock.Instant)?

    init(
        check: @escaping HealthController.ReadinessCheck, sleep: @escaping @Sendable (Duration) async throws -> Void,
        now: @escaping @Sendable () -> ContinuousClock.Instant
    ) {
        self.check = check
        self.sleep = sleep
        self.now = now
    }

    func state(_ logger: Logger) async -> State {
        if let running { return await running.value }
        if let last, now() < last.end { return last.state }
        let task = Task { [check, sleep] in await Self.state(check, sleep, logger) }
        running = task
        let state = await task.value
        last = (state, now() + Self.lifetime)
        running = nil
        return state
    }

    private static func state(
        _ check: @escaping HealthController.ReadinessCheck,
        _ sleep: @escaping @Sendable (Duration) async throws -> Void,
        _ logger: Logger
    ) async -> State {
        do {
            guard let findings = try await withDeadline(limit, sleep: sleep, check) else {
                return .unavailable("The readiness check took longer than 2 seconds.")
            }
            return .ready(findings)
        } catch {
            logger.warning("not ready", metadata: ["error": "\(String(reflecting: error))"])
            return .unavailable((error as? AppError)?.message ?? "The readiness check failed.")
        }
    }
}

extension PrometheusRegistry {
    /// `/metrics`: every metric of the process in Prometheus' text format.
    @Sendable
    package func getMetrics(_ request: Request, _ context: AppRequestContext) -> Response {
        Response(
            status: .ok, headers: [.contentType: "text/plain; version=0.0.4"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: render())))
    }
}

extension Router<AppRequestContext> {
    /// Answers methods that a known path does not have: 405 with `Allow`, in Laravel's words. `OPTIONS` lists the
    /// methods (RFC 9110 §9.3.7, §15.5.6). Hummingbird alone answers 404. Call this once, after the last route.
    package func answerOtherMethods() {
        for (path, routes) in Dictionary(grouping: routes, by: \.path.description) {
            // Hummingbird adds a `HEAD` for each `GET` when it builds the responder.
            let taken = Set(routes.map(\.method)).flatMap { $0 == .get ? [.get, .head] : [$0] }
            let allow = taken.map(\.rawValue).sorted().joined(separator: ", ")
            for method in Self.methods where !taken.contains(method) {
                on(RouterPath(path), method: method) { request, _ in
                    try Self.answer(method, path: request.uri.path, allow: allow)
                }
            }
        }
    }

    private static var methods: [HTTPRequest.Method] {
        [.get, .head, .post, .put, .patch, .delete, .options, .trace, .connect, .query]
    }

    private static func answer(_ method: HTTPRequest.Method, path: String, allow: String) throws -> Response {
        let headers: HTTPFields = [.allow: allow]
        if method == .options { return Response(status: .ok, headers: headers) }
        throw HTTPError(
            .methodNotAllowed, headers: headers,
            message: "The \(method.rawValue) method is not supported for route \(path.routeName). "
                + "Supported methods: \(allow).")
    }
}

/// What `operation` returns, or `nil` when it takes longer than `limit`. It is cancelled then, and not waited for, so
/// an operation that ignores cancellation cannot delay the caller.
///
/// - Throws: What `operation` throws; `CancellationError` when the caller is cancelled.
package func withDeadline<T: Sendable>(
    _ limit: Duration, sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) },
    _ operation: @escaping @Sendable () async throws -> T
) async throws -> T? {
    let (outcomes, outcome) = AsyncStream.makeStream(of: Result<T?, any Error>.self)
    let work = Task {
        do { outcome.yield(.success(try await operation())) } catch { outcome.yield(.failure(error)) }
    }
    let timer = Task {
        try await sleep(limit)
        outcome.yield(.success(nil))
    }
    defer {
        work.cancel()
        timer.cancel()
    }
    for await first in outcomes { return try first.get() }
    throw CancellationError()
}
