import Testing

@testable import Postgres

@Suite(.timeLimit(.minutes(30))) struct PoolStateMachineTests {
    private typealias Machine = PoolStateMachine<String>
    private let now = ContinuousClock.now

    private func later(_ seconds: Int) -> ContinuousClock.Instant { now + .seconds(seconds) }

    private func isOpen(_ lease: Machine.Lease?) -> Bool {
        if case .open = lease { true } else { false }
    }

    private func session(_ lease: Machine.Lease?) -> String? {
        if case .use(let session) = lease { session } else { nil }
    }

    /// A pool whose two places are lent to "a" and "b".
    private func full() -> Machine {
        var machine = Machine(maxConnections: 2)
        #expect(isOpen(machine.lease(1)))
        #expect(isOpen(machine.lease(2)))
        #expect(machine.opened().granted.isEmpty)
        #expect(machine.opened().granted.isEmpty)
        return machine
    }

    @Test func theLastUsedSessionIsLentFirst() {
        var machine = full()
        _ = machine.release("a", expiry: later(100), now: now)
        _ = machine.release("b", expiry: later(100), now: later(1))
        #expect(session(machine.lease(3)) == "b")
        #expect(session(machine.lease(4)) == "a")
        #expect(machine.lease(5) == nil)
        #expect(machine.total == 2)
    }

    @Test func waitersAreServedInOrder() {
        var machine = full()
        for waiter in 3...5 {
            #expect(machine.lease(waiter) == nil)
        }
        #expect([machine.removeWaiter(4), machine.removeWaiter(4)] == [true, false])
        #expect(machine.release("a", expiry: later(100), now: now).granted.map(\.waiter) == [3])
        #expect(machine.release("b", expiry: later(100), now: now).granted.map(\.waiter) == [5])
        #expect(machine.waiterCount == 0)
    }

    @Test func aBrokenSessionMakesRoomOnlyWhenItIsClosed() {
        var machine = full()
        #expect(machine.lease(3) == nil)
        let actions = machine.retire("a")
        #expect(actions.retired == ["a"])
        #expect(actions.granted.isEmpty)
        #expect(machine.total == 2)
        let granted = machine.closed().granted
        #expect(granted.map(\.waiter) == [3])
        #expect(isOpen(granted.first?.lease))
        #expect(machine.total == 2)
    }

    @Test func whenPostgreSQLIsDownEveryWaiterFails() {
        var machine = Machine(maxConnections: 1)
        #expect(isOpen(machine.lease(1)))
        #expect(machine.lease(2) == nil)
        #expect(machine.lease(3) == nil)
        #expect(machine.openFailed().failed == [2, 3])
        #expect(machine.total == 0)
        #expect(isOpen(machine.lease(4)))
    }

    @Test func whileOneSessionWorksWaitersWaitForIt() {
        var machine = Machine(maxConnections: 2)
        #expect(isOpen(machine.lease(1)))
        _ = machine.opened()
        #expect(isOpen(machine.lease(2)))
        #expect(machine.lease(3) == nil)
        #expect(machine.openFailed().failed.isEmpty)
        #expect(machine.lease(4) == nil)
        #expect(session(machine.release("a", expiry: later(100), now: now).granted.first?.lease) == "a")
        let grown = machine.maintain(unusedSince: now, now: now).granted
        #expect(grown.map(\.waiter) == [4])
        #expect(isOpen(grown.first?.lease))
    }

    @Test func aSuccessfulOpenInvitesTheNextWaiter() {
        var machine = full()
        #expect(machine.lease(3) == nil)
        #expect(machine.lease(4) == nil)
        _ = machine.retire("a")
        _ = machine.retire("b")
        #expect(machine.closed().granted.map(\.waiter) == [3])
        #expect(machine.openFailed().failed == [4])
        #expect(machine.closed().granted.isEmpty)
        #expect(machine.total == 0)
    }

    @Test func oldAndUnusedSessionsRetire() {
        var machine = full()
        #expect(machine.release("a", expiry: now, now: now).retired == ["a"])
        _ = machine.closed()
        _ = machine.release("b", expiry: later(100), now: now)
        #expect(machine.maintain(unusedSince: now - .seconds(1), now: later(1)).retired.isEmpty)
        #expect(machine.maintain(unusedSince: now, now: later(1)).retired == ["b"])
        #expect(!machine.closed().isDrained)
        #expect(machine.total == 0)
    }

    @Test func closingWaitsForWhatIsLent() {
        var machine = full()
        _ = machine.release("a", expiry: later(100), now: now)
        let actions = machine.close()
        #expect(actions.retired == ["a"])
        #expect(!machine.closed().isDrained)
        #expect(machine.release("b", expiry: later(100), now: now).retired == ["b"])
        #expect(machine.closed().isDrained)
    }

    @Test func theLeastRecentlyUsedStatementMakesRoom() {
        var cache = StatementCache(capacity: 2)
        for sql in ["a", "b"] {
            let evicted = cache.evict()
            #expect(evicted == nil)
            cache.insert(cache.makeName(), for: sql)
        }
        let used = cache.name(for: "a")
        let evicted = cache.name(for: "b")
        _ = cache.name(for: "a")
        #expect(used != evicted)
        #expect(cache.evict() == evicted)
        #expect(cache.name(for: "b") == nil)
        #expect(cache.name(for: "a") == used)
    }
}
