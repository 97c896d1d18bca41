internal import Domain
internal import HTTPTypes
package import Hummingbird
internal import Logging

/// What an orchestrator asks: is the process alive, and can it do its work now.
package struct HealthRoutes: Sendable {
    /// Asks everything the service needs; throws an `AppError` whose message may be shown, or any other error.
    package typealias ReadinessCheck = @Sendable () async throws -> Void

    /// The time within which the check must be done.
    private static let limit = Duration.seconds(2)

    private static let fine: JSON = ["status": "ok"]

    private let check: ReadinessCheck
    private let sleep: @Sendable (Duration) async throws -> Void

    package init(
        check: @escaping ReadinessCheck,
        sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
    ) {
        self.check = check
        self.sleep = sleep
    }

    /// `GET /health/live`: always 200. `GET /health/ready`: 200, or 503 with the reasons.
    package func add(to router: Router<AppRequestContext>) {
        router.get("/health/live") { _, _ in
            Response(status: .ok, json: Self.fine.buffer)
        }
        router.get("/health/ready") { _, context in
            guard let reason = await self.reason(context) else {
                return Response(status: .ok, json: Self.fine.buffer)
            }
            let answer: JSON = ["reasons": [.string(reason)], "status": "unavailable"]
            return Response(status: .serviceUnavailable, json: answer.buffer)
        }
    }

    /// Why the service cannot work now, in words for a stranger; `nil` when it can.
    private func reason(_ context: AppRequestContext) async -> String? {
        do {
            guard try await withDeadline(Self.limit, sleep: sleep, check) != nil else {
                return "The readiness check took longer than 2 seconds."
            }
            return nil
        } catch {
            context.logger.warning("not ready", metadata: ["error": "\(String(reflecting: error))"])
            return (error as? AppError)?.message ?? "The readiness check failed."
        }
    }
}
