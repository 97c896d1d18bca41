import Bootstrap
import Domain
import Synchronization
import Testing

@testable import AdminAPI

/// The bounds of what anonymous clients may try.
@Suite(.timeLimit(.minutes(30))) struct AttemptLimiterTests {
    /// A time that stands still until a test moves it.
    private final class Time: Sendable {
        private let instant = Mutex(ContinuousClock.now)
        var now: ContinuousClock.Instant { instant.withLock { $0 } }
        func advance(by duration: Duration) { instant.withLock { $0 += duration } }
    }

    @Test func aBurstIsAdmittedThenOneInEachInterval() {
        let time = Time()
        let limiter = AttemptLimiter<String>(burst: 3, interval: .seconds(2)) { time.now }
        #expect((0..<3).map { _ in limiter.wait(for: "a") } == [nil, nil, nil])
        #expect(limiter.wait(for: "a") == 2)
        time.advance(by: .milliseconds(1500))
        #expect(limiter.wait(for: "a") == 1)
        time.advance(by: .milliseconds(500))
        #expect(limiter.wait(for: "a") == nil)
        #expect(limiter.wait(for: "a") == 2)
        time.advance(by: .seconds(3600))
        #expect((0..<4).map { _ in limiter.wait(for: "a") == nil } == [true, true, true, false])
    }

    @Test func floodingOtherKeysRestoresNothingAndHardlyRefusesANewOne() {
        let time = Time()
        let limiter = AttemptLimiter<Int>(burst: 1, interval: .seconds(60)) { time.now }
        #expect(limiter.wait(for: -1) == nil)
        for key in 0..<200_000 {
            _ = limiter.wait(for: key)
            if key.isMultiple(of: 20_000) { #expect(limiter.wait(for: -1) != nil) }
        }
        #expect(limiter.wait(for: -1) != nil)
        time.advance(by: .seconds(60 * 200))
        // A thousand keys are in use, each with four of 65,536 cells. Fewer than one new key in ten thousand shares all
        // its cells with them.
        let refused = (1_000_000..<1_001_000).count { limiter.wait(for: $0) != nil }
        #expect(refused <= 1)
    }

    @Test func anEmailHasABoundOverAllAddresses() throws {
        let time = Time()
        let throttle = LoginThrottle(rate: 60) { time.now }
        func isAdmitted(_ email: String, _ address: String) throws -> Bool {
            let address = try #require(IPAddress(address))
            do {
                try throttle.admitLogin(email, from: address)
                return true
            } catch let error as AppError where error.code == .tooManyRequests {
                return false
            }
        }
        #expect(
            try (0..<6).map { _ in try isAdmitted("ada@example.com", "192.0.2.1") } == [
                true, true, true, true, true, false,
            ])
        // One sender does not lock Ada out.
        #expect(try isAdmitted("ADA@example.com", "192.0.2.2"))
        var admitted = 0
        for address in 3..<200 where try isAdmitted("ada@example.com", "192.0.2.\(address)") { admitted += 1 }
        #expect(admitted == 14)
        #expect(try isAdmitted("bob@example.com", "192.0.2.2"))
    }

    @Test func anAddressAndAnIPv6NetworkHaveTheirOwnBounds() throws {
        let time = Time()
        let throttle = LoginThrottle(rate: 10) { time.now }
        func admitted(_ count: Int, _ address: (Int) -> String) throws -> Int {
            try (0..<count).count { index in
                let address = try #require(IPAddress(address(index)))
                return (try? throttle.admitLogin("user\(index)@example.com", from: address)) != nil
            }
        }
        #expect(try admitted(50) { _ in "198.51.100.7" } == 10)
        #expect(try admitted(50) { "2001:db8:0:1::\($0 + 1)" } == 10)
        #expect(try admitted(500) { "2001:db8:0:\(String($0 + 2, radix: 16))::1" } == 70)
        #expect(try admitted(1) { _ in "2001:db8:1::1" } == 1)
    }
}
