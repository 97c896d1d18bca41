import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(30))) struct HealthTests {
    private struct Unexpected: Error {
        let detail = "s3cret"
    }

    private func ready(_ check: @escaping HealthController.ReadinessCheck) async throws -> TestResponse {
        var server = TestServer()
        server.readiness = check
        return try await server.test { try await $0.execute(uri: "/health/ready", method: .get) }
    }

    @Test func aProcessIsLiveWhateverElseIsWrong() async throws {
        var server = TestServer()
        server.readiness = { throw Unexpected() }
        let response = try await server.test { try await $0.execute(uri: "/health/live", method: .get) }
        #expect(response.status == .ok)
        #expect(response.text == #"{"status":"ok"}"#)
        #expect(response.headers[.contentType] == "application/json")
    }

    @Test func aServiceThatCanWorkIsReady() async throws {
        let response = try await ready { [] }
        #expect(response.status == .ok)
        #expect(response.text == #"{"status":"ok"}"#)
        let known = try await ready { ["users has soft deletes."] }
        #expect(known.status == .ok)
        #expect(known.text == #"{"findings":["users has soft deletes."],"status":"ok"}"#)
    }

    @Test func anUnreadyServiceSaysWhyWithoutDetails() async throws {
        let known = try await ready { throw AppError(.unavailable, "PostgreSQL does not answer.") }
        #expect(known.status == .serviceUnavailable)
        #expect(known.text == #"{"reasons":["PostgreSQL does not answer."],"status":"unavailable"}"#)
        let unexpected = try await ready { throw Unexpected() }
        #expect(unexpected.status == .serviceUnavailable)
        #expect(unexpected.text == #"{"reasons":["The readiness check failed."],"status":"unavailable"}"#)
    }

    @Test func aHangingCheckThatIgnoresCancellationIsNotAwaited() async throws {
        let (hanging, release) = AsyncStream.makeStream(of: Void.self)
        let hang = Task { for await _ in hanging {} }
        let health = HealthController(
            check: {
                await hang.value; return []
            }, sleep: { #expect($0 == .seconds(2)) })
        let router = Router(context: AppRequestContext.self)
        router.get("/health/ready", use: health.checkReadiness)
        let response = try await Application(router: router).test(.router) { client in
            try await client.execute(uri: "/health/ready", method: .get)
        }
        release.finish()
        #expect(response.status == .serviceUnavailable)
        #expect(response.text.contains("The readiness check took longer than 2 seconds."))
    }

    @Test func theCheckRunsFourTimesASecondAndNeverTwiceAtATime() async throws {
        let checks = Mutex(0)
        let time = Mutex(ContinuousClock.now)
        let isDown = Mutex(false)
        var server = TestServer()
        server.now = { time.withLock(\.self) }
        server.readiness = {
            checks.withLock { $0 += 1 }
            if isDown.withLock(\.self) { throw AppError(.unavailable, "away") }
            return []
        }
        try await server.test(.live) { client in
            func ask() async throws -> Set<HTTPResponse.Status> {
                try await withThrowingTaskGroup(of: HTTPResponse.Status.self) { group in
                    for _ in 0..<100 {
                        group.addTask { try await client.execute(uri: "/health/ready", method: .get).status }
                    }
                    return try await group.reduce(into: []) { $0.insert($1) }
                }
            }
            let answers1 = try await ask()
            #expect(answers1 == [.ok])
            #expect(checks.withLock(\.self) == 1)
            isDown.withLock { $0 = true }
            let answers2 = try await ask()
            #expect(answers2 == [.ok])
            time.withLock { $0 += .milliseconds(250) }
            let answers3 = try await ask()
            #expect(answers3 == [.serviceUnavailable])
            #expect(checks.withLock(\.self) == 2)
        }
    }

    @Test func metricsArePrometheusText() async throws {
        let server = TestServer()
        let response = try await server.test { client in
            _ = try await client.execute(uri: "/health/live", method: .get)
            return try await client.execute(uri: "/metrics", method: .get)
        }
        #expect(response.headers[.contentType] == "text/plain; version=0.0.4")
        let line = "http_requests_total{method=\"GET\",route=\"/health/live\",status=\"200\"} 1\n"
        #expect(response.text.contains(line))
    }
}
