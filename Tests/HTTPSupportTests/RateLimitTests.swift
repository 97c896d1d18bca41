import Bootstrap
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Synchronization
import Testing

@testable import HTTPSupport

@Suite(.timeLimit(.minutes(30))) struct RateLimitTests {
    /// A time that stands still until a test moves it.
    private final class Time: Sendable {
        private let instant = Mutex(ContinuousClock.now)
        var now: ContinuousClock.Instant { instant.withLock { $0 } }
        func advance(by duration: Duration) { instant.withLock { $0 += duration } }
    }

    private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    @Test func aBurstIsAdmittedThenTheRate() throws {
        let time = Time()
        let limiter = RateLimiter<IPAddress>(rate: 0.5, burst: 2) { time.now }
        let client = try address("192.0.2.1")
        #expect([limiter.wait(for: client), limiter.wait(for: client)] == [nil, nil])
        #expect(limiter.wait(for: client) == 2)
        time.advance(by: .seconds(1))
        #expect(limiter.wait(for: client) == 1)
        time.advance(by: .seconds(1))
        #expect(limiter.wait(for: client) == nil)
        #expect(limiter.wait(for: client) == 2)
        time.advance(by: .seconds(3600))
        #expect([limiter.wait(for: client), limiter.wait(for: client)] == [nil, nil])
        #expect(limiter.wait(for: client) == 2)
    }

    @Test func clientsAreLimitedSeparatelyAndASlash64IsOneClient() throws {
        let limiter = RateLimiter<IPAddress>(rate: 1, burst: 1)
        #expect(limiter.wait(for: try address("192.0.2.1")) == nil)
        #expect(limiter.wait(for: try address("192.0.2.2")) == nil)
        #expect(limiter.wait(for: try address("2001:db8::1").customer) == nil)
        #expect(limiter.wait(for: try address("2001:db8::2").customer) != nil)
        #expect(limiter.wait(for: try address("2001:db8:0:1::1").customer) == nil)
    }

    @Test func aFloodOfAddressesUsesBoundedMemoryAndKeepsFrequentClients() throws {
        let limiter = RateLimiter<IPAddress>(rate: 0.001, burst: 1, capacity: 100)
        let regular = try address("198.51.100.1")
        #expect(limiter.wait(for: regular) == nil)
        for index in 0..<1000 {
            _ = limiter.wait(for: try address("10.0.\(index / 256).\(index % 256)"))
            #expect(limiter.wait(for: regular) != nil)
        }
        #expect(limiter.count <= 200)
    }

    @Test func aboveTheRateIs429AndHealthAndMetricsStillAnswer() async throws {
        var server = TestServer()
        server.settings.rateLimit = .init(rate: 1, burst: 1)
        let start = ContinuousClock.now
        server.now = { start }
        try await server.test(.live, routes: [HTTPRoute(.get, "/api/x") { _, _ in "x" }]) { client in
            #expect(try await client.execute(uri: "/api/x", method: .get).status == .ok)
            let refused = try await client.execute(uri: "/api/x", method: .get)
            #expect(refused.status == .tooManyRequests)
            #expect(refused.headers[.retryAfter] == "1")
            for path in ["/health/live", "/health/ready", "/metrics"] {
                #expect(try await client.execute(uri: path, method: .get).status == .ok)
            }
        }
    }
}
