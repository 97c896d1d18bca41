/// The rules of a connection pool, without sockets, threads or clocks. Each event returns the actions to take.
///
/// Waiters are served first come, first served. Of the unused sessions the most recently used one is taken, so that
/// surplus ones reach the idle timeout. A session counts until it is closed, so there are never more connections than
/// the limit.
struct PoolStateMachine<Session: Sendable> {
    typealias Instant = ContinuousClock.Instant
    typealias WaiterID = Int

    /// The answer to a request for a connection.
    enum Lease {
        case use(Session)
        /// The right to open a new session, which the caller does.
        case open
    }

    /// The actions to take after an event.
    struct Actions {
        var granted: [(waiter: WaiterID, lease: Lease)] = []
        var failed: [WaiterID] = []
        /// Sessions to close. Call `closed()` after each.
        var retired: [Session] = []
        /// Whether the pool was closed and the last session is gone.
        var isDrained = false
    }

    private struct Idle {
        var session: Session
        var since: Instant
        var expiry: Instant
    }

    private let maxConnections: Int
    private var idle: [Idle] = []
    private var waiters: [WaiterID] = []
    /// Sessions that are connected, lent out or not.
    private var connected = 0
    /// All sessions, including those being opened or closed.
    private(set) var total = 0
    private(set) var isClosed = false

    var waiterCount: Int { waiters.count }

    init(maxConnections: Int) {
        self.maxConnections = maxConnections
    }

    /// A lease; or `nil`, and the waiter is at the end of the queue.
    mutating func lease(_ waiter: WaiterID) -> Lease? {
        // If others wait although a session could be opened, the server refused one. `opened` and `maintain` try again.
        if waiters.isEmpty, let lease = nextLease() {
            return lease
        }
        waiters.append(waiter)
        return nil
    }

    /// Removes a waiter from the queue; `false` if it is not there any more.
    mutating func removeWaiter(_ waiter: WaiterID) -> Bool {
        guard let index = waiters.firstIndex(of: waiter) else { return false }
        waiters.remove(at: index)
        return true
    }

    /// A session was opened, so the server may accept connections for other waiters too.
    mutating func opened() -> Actions {
        connected += 1
        return serveNext()
    }

    /// A session could not be opened. If no other is connected, PostgreSQL is down for all waiters.
    mutating func openFailed() -> Actions {
        total -= 1
        var actions = Actions(isDrained: isClosed && total == 0)
        if connected == 0 {
            actions.failed = waiters
            waiters = []
        }
        return actions
    }

    /// A leased session comes back and is usable.
    mutating func release(_ session: Session, expiry: Instant, now: Instant) -> Actions {
        guard !isClosed, expiry > now else { return retire(session) }
        guard waiters.isEmpty else {
            return Actions(granted: [(waiters.removeFirst(), .use(session))])
        }
        idle.append(Idle(session: session, since: now, expiry: expiry))
        return Actions()
    }

    /// A leased session comes back broken, in a doubtful state, or too old.
    mutating func retire(_ session: Session) -> Actions {
        connected -= 1
        return Actions(retired: [session])
    }

    /// A retired session was closed, so another one can be opened.
    mutating func closed() -> Actions {
        total -= 1
        var actions = serveNext()
        actions.isDrained = isClosed && total == 0
        return actions
    }

    /// Retires sessions that are too old or unused since before `idleSince`, and opens a session for a waiter if one
    /// is allowed.
    mutating func maintain(unusedSince idleSince: Instant, now: Instant) -> Actions {
        let expired = idle.filter { $0.expiry <= now || $0.since <= idleSince }
        idle.removeAll { $0.expiry <= now || $0.since <= idleSince }
        connected -= expired.count
        var actions = serveNext()
        actions.retired = expired.map(\.session)
        return actions
    }

    /// No task gets a connection any more. Unused sessions close at once, leased ones when they come back.
    mutating func close() -> Actions {
        isClosed = true
        connected -= idle.count
        defer {
            idle = []
            waiters = []
        }
        return Actions(failed: waiters, retired: idle.map(\.session))
    }

    private mutating func serveNext() -> Actions {
        guard !waiters.isEmpty, let lease = nextLease() else { return Actions() }
        return Actions(granted: [(waiters.removeFirst(), lease)])
    }

    private mutating func nextLease() -> Lease? {
        if let last = idle.popLast() {
            return .use(last.session)
        }
        guard total < maxConnections else { return nil }
        total += 1
        return .open
    }
}
