package import Bootstrap
internal import CoreMetrics
internal import Domain
internal import HTTPTypes
package import Hummingbird
internal import NIOCore
internal import Synchronization

/// Reads request bodies. A limit bounds each body and a budget bounds all of them, so memory is bounded whatever is
/// sent.
package struct BodyReader: Sendable {
    /// Who sends the bodies.
    package enum Senders: Sendable {
        /// Programs that have authenticated. The announced length is reserved at once, so that of two large bodies one
        /// is read to its end.
        case trusted
        /// Anyone. Memory is reserved as bytes arrive, whatever length is announced. One client may use a quarter of
        /// the budget.
        case anyone
    }

    /// The smallest reservation. It doubles as the body grows.
    static let smallest = 16 << 10

    /// How long a whole body may take.
    package let deadline: Duration
    let limit: Int
    let budget: ByteBudget
    private let senders: Senders

    /// - Parameters:
    ///   - limit: The longest body, in bytes.
    ///   - budget: The bytes of all bodies in memory.
    ///   - senders: Who sends the bodies.
    ///   - deadline: How long a whole body may take.
    package init(
        limit: Int, budget: ByteBudget, senders: Senders = .trusted, deadline: Duration = .seconds(120)
    ) {
        self.limit = limit
        self.budget = budget
        self.senders = senders
        self.deadline = deadline
    }

    /// The settings of bodies. `limit` is the default of the longest body, in bytes.
    package static func table(prefix: String, limit: Int = 64 << 20) -> SettingsTable {
        let sizes = 1 << 10...1 << 30
        return [
            Setting(
                "\(prefix)_MAX_BODY_BYTES", .bytes(sizes), default: "\(limit)",
                "The largest body in bytes; a larger one is answered 413."),
            Setting(
                "\(prefix)_MAX_INFLIGHT_BYTES", .bytes(sizes), default: "\(32 << 20)",
                "Bytes of all bodies in memory at one time; requests over it wait, then are answered 503."),
        ]
    }

    /// Reads ``table(prefix:limit:)``.
    package init(
        reading settings: SettingsReader, prefix: String, limit: Int = 64 << 20, senders: Senders = .trusted,
        deadline: Duration = .seconds(120)
    ) {
        let table = Self.table(prefix: prefix, limit: limit)
        let limit = settings.bytes(table["\(prefix)_MAX_BODY_BYTES"])
        let capacity = settings.bytes(table["\(prefix)_MAX_INFLIGHT_BYTES"])
        let budget = ByteBudget(capacity: capacity, share: senders == .anyone ? capacity / 4 : nil)
        self.init(limit: limit, budget: budget, senders: senders, deadline: deadline)
    }

    /// Gives the whole body of `request` to `body`. Its memory is free again when `body` returns.
    ///
    /// The bytes are valid inside `body` only. 64 zeroed bytes follow them, as simdjson needs.
    ///
    /// - Throws: ``AppError`` `.tooLarge` when the body is over the limit, `.unavailable` when no memory is free in
    ///   time, `.timeout` when the body takes longer than ``deadline``, `.invalid` when it ends early; what `body`
    ///   throws.
    package func withBody<T>(
        of request: Request, context: AppRequestContext, _ body: (UnsafeMutableRawBufferPointer) throws -> T
    ) async throws -> T {
        let announced = request.headers[.contentLength].flatMap { Int($0) }
        if let announced, announced > limit { throw tooLarge }
        let client = context.clientAddress?.customer
        var reserved = senders == .trusted ? firstReservation(announced: announced) : 0
        if reserved > 0 { try await budget.acquire(reserved, for: client) }
        defer { if reserved > 0 { budget.release(reserved, for: client) } }

        let end = ContinuousClock.now + deadline
        var buffer = BodyBuffer(capacity: reserved)
        for try await chunk in request.body {
            let length = buffer.count + chunk.readableBytes
            if length > limit { throw tooLarge }
            guard ContinuousClock.now < end else { throw AppError(.timeout, Self.tooSlow) }
            if length > buffer.capacity {
                let larger = reservation(for: length, announced: announced, holding: reserved)
                try await budget.acquire(larger - reserved, holding: reserved, for: client)
                reserved = larger
                buffer.grow(to: larger)
            }
            buffer.append(chunk)
        }
        context.log.bytesIn = buffer.count
        if let announced, buffer.count < announced {
            throw AppError(.invalid, "The body ended before its Content-Length.")
        }
        return try buffer.withBytes(body)
    }

    /// The bytes to reserve for a trusted sender's body before it arrives.
    func firstReservation(announced: Int?) -> Int { announced ?? min(Self.smallest, limit) }

    /// The bytes to reserve for a body of which `length` bytes have come and `reserved` are reserved. Never more than
    /// the announced length.
    func reservation(for length: Int, announced: Int?, holding reserved: Int) -> Int {
        max(length, min(announced ?? limit, max(Self.smallest, 2 * reserved)))
    }

    /// The error text for a body that took too long.
    package static let tooSlow = "The body took too long. Send it in one go."

    var tooLarge: AppError { AppError(.tooLarge, "The body is over the limit of \(limit) bytes.") }
}

/// One piece of memory for a whole body, followed by the zeroed bytes that simdjson reads beyond its end.
struct BodyBuffer: ~Copyable {
    /// simdjson's `SIMDJSON_PADDING`.
    static let padding = 64

    private var memory: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(capacity: Int) {
        memory = .allocate(byteCount: capacity + Self.padding, alignment: Self.padding)
    }

    deinit { memory.deallocate() }

    var capacity: Int { memory.count - Self.padding }

    /// Moves the body to memory of `capacity` bytes, at least its length.
    mutating func grow(to capacity: Int) {
        let larger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: capacity + Self.padding, alignment: Self.padding)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<count]))
        memory.deallocate()
        memory = larger
    }

    /// Appends `chunk`, which must fit.
    mutating func append(_ chunk: ByteBuffer) {
        precondition(chunk.readableBytes <= capacity - count)
        chunk.withUnsafeReadableBytes { bytes in
            UnsafeMutableRawBufferPointer(rebasing: memory[count...]).copyMemory(from: bytes)
        }
        count += chunk.readableBytes
    }

    /// The body. Its padding is zeroed here, after the last byte.
    func withBytes<T>(_ body: (UnsafeMutableRawBufferPointer) throws -> T) rethrows -> T {
        UnsafeMutableRawBufferPointer(rebasing: memory[count..<(count + Self.padding)]).initializeMemory(
            as: UInt8.self, repeating: 0)
        return try body(UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
    }
}

/// Bounds the bytes of request bodies in memory. A request waits in line while none are free.
///
/// The line is first come, first served, so that small bodies never starve a large one. A body larger than the whole
/// budget is admitted alone. A client that has used its share waits for its own bytes, and does not delay other
/// clients. Gauges `http_body_budget_used_bytes` and `http_body_budget_waiting`.
package final class ByteBudget: Sendable {
    private struct Waiter {
        let id: Int
        let bytes: Int
        /// The bytes that the same request holds already. With them it may use the whole budget alone.
        let held: Int
        let client: IPAddress?
        let admission: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var used = 0
        /// The bytes of each client that holds some.
        var shares: [IPAddress: Int] = [:]
        var nextID = 0
        var waiters: [Waiter] = []

        mutating func use(_ bytes: Int, _ client: IPAddress?) {
            used += bytes
            guard let client else { return }
            let rest = shares[client, default: 0] + bytes
            shares[client] = rest == 0 ? nil : rest
        }
    }

    private let capacity: Int
    private let share: Int
    private let timeout: Duration
    private let sleep: @Sendable (Duration) async throws -> Void
    private let state = Mutex(State())
    private let gauges = Mutex<(used: Gauge, waiting: Gauge)?>(nil)

    /// - Parameters:
    ///   - capacity: The bytes of all requests together.
    ///   - share: The bytes of one client; `nil` for the whole capacity.
    ///   - timeout: How long a request waits for its bytes. It is shorter than a connection's idle timeout.
    ///   - sleep: Waits for a time.
    package init(
        capacity: Int = 32 << 20, share: Int? = nil, timeout: Duration = .seconds(5),
        sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
    ) {
        self.capacity = capacity
        self.share = share ?? .max
        self.timeout = timeout
        self.sleep = sleep
    }

    /// The bytes in use and the requests in line.
    package var usage: (used: Int, waiting: Int) { state.withLock { ($0.used, $0.waiters.count) } }

    /// Takes `bytes` as ``acquire(_:holding:for:)`` does, but does not wait: `false` when none are free.
    func takeIfFree(_ bytes: Int, holding held: Int, for client: IPAddress?) -> Bool {
        defer { showUsage() }
        return state.withLock { take(bytes, held, client, &$0) }
    }

    /// Takes `bytes` for a request of `client` that holds `held` bytes already. A request that holds some goes first,
    /// because only it can give them back.
    ///
    /// - Throws: ``AppError`` `.unavailable` when no bytes are free within the timeout; `CancellationError` when the
    ///   task is cancelled.
    package func acquire(_ bytes: Int, holding held: Int = 0, for client: IPAddress? = nil) async throws {
        let id: Int? = state.withLock { state in
            if take(bytes, held, client, &state) { return nil }
            state.nextID += 1
            return state.nextID
        }
        defer { showUsage() }
        guard let id else { return }
        let deadline = Task {
            try await sleep(timeout)
            fail(id, AppError(.unavailable, "Too many bodies are being read; send again.", retryAfter: 1))
        }
        defer { deadline.cancel() }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { enqueue(id, bytes, held, client, $0) }
        } onCancel: {
            fail(id, CancellationError())
        }
    }

    /// Gives `bytes` of `client` back, and admits requests from the head of the line.
    package func release(_ bytes: Int, for client: IPAddress? = nil) {
        change { $0.use(-bytes, client) }
    }

    /// Takes the bytes if no request waits before this one and they fit, or if the request has the budget to itself.
    private func take(_ bytes: Int, _ held: Int, _ client: IPAddress?, _ state: inout State) -> Bool {
        let isFirst = held > 0 || (!state.waiters.contains { $0.client == client } && head(of: state) == nil)
        guard isFirst, isWithinShare(bytes, held, client, state), fits(bytes, held, state) else { return false }
        state.use(bytes, client)
        return true
    }

    private func fits(_ bytes: Int, _ held: Int, _ state: State) -> Bool {
        state.used + bytes <= capacity || state.used == held
    }

    private func isWithinShare(_ bytes: Int, _ held: Int, _ client: IPAddress?, _ state: State) -> Bool {
        guard let client else { return true }
        let used = state.shares[client, default: 0]
        return used <= share - bytes || used == held
    }

    /// The index of the first request in line that does not wait for its own client's bytes. Such a request blocks only
    /// its own client.
    private func head(of state: State) -> Int? {
        var waiting: Set<IPAddress> = []
        return state.waiters.firstIndex { waiter in
            guard let client = waiter.client else { return true }
            return waiting.insert(client).inserted && isWithinShare(waiter.bytes, waiter.held, client, state)
        }
    }

    private func enqueue(
        _ id: Int, _ bytes: Int, _ held: Int, _ client: IPAddress?,
        _ admission: CheckedContinuation<Void, any Error>
    ) {
        let answer: Result<Void, any Error>? = state.withLock { state in
            // A cancellation before this line found no waiter to fail.
            if Task.isCancelled { return .failure(CancellationError()) }
            if take(bytes, held, client, &state) { return .success(()) }
            let waiter = Waiter(id: id, bytes: bytes, held: held, client: client, admission: admission)
            state.waiters.insert(waiter, at: held > 0 ? 0 : state.waiters.endIndex)
            return nil
        }
        if let answer { admission.resume(with: answer) }
        showUsage()
    }

    /// Fails waiter `id` with `error`, if it still waits.
    private func fail(_ id: Int, _ error: any Error) {
        let waiter = state.withLock { state in
            state.waiters.firstIndex { $0.id == id }.map { state.waiters.remove(at: $0) }
        }
        guard let waiter else { return }
        waiter.admission.resume(throwing: error)
        change { _ in }
    }

    /// Changes the state, then admits from the head of the line while the head fits. Requests that wait for their own
    /// share are passed over.
    private func change(_ apply: (inout State) -> Void) {
        let admitted = state.withLock { state in
            apply(&state)
            var admitted: [Waiter] = []
            while let index = head(of: state), fits(state.waiters[index].bytes, state.waiters[index].held, state) {
                let head = state.waiters.remove(at: index)
                state.use(head.bytes, head.client)
                admitted.append(head)
            }
            return admitted
        }
        for waiter in admitted { waiter.admission.resume() }
        showUsage()
    }

    private func showUsage() {
        let usage = usage
        gauges.withLock { gauges in
            // A budget is made with the settings, before there are metrics.
            let shown =
                gauges ?? (Gauge(label: "http_body_budget_used_bytes"), Gauge(label: "http_body_budget_waiting"))
            gauges = shown
            shown.used.record(usage.used)
            shown.waiting.record(usage.waiting)
        }
    }
}
