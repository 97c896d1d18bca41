internal import Bootstrap
internal import Domain
package import HTTPTypes
internal import Hummingbird
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOHTTP1

/// A request of a lane. It is used on the event loop of its connection only.
package final class LaneRequest {
    /// The bytes that follow a body, zeroed, as simdjson needs.
    package static let padding = 64
    /// A longer body is read in a task, because it would hold up the other connections of its event loop.
    private static let loopBytes = 64 << 10

    /// The request's id in the log.
    let id = RequestID().description
    /// The path as it was sent.
    let path: String
    let start = NIODeadline.now()
    /// The `Content-Length`; `nil` without one.
    let announced: Int?
    /// Whether the client wants no further answer on this connection.
    let isLast: Bool
    let client: IPAddress?
    /// The fields of the request's line that only its responder knows, sorted by their names.
    package var facts: [(String, String)] = []

    private let head: HTTPRequestHead
    private let loop: LaneLoop
    private(set) var reserved = 0
    private(set) var bytesIn: Int
    private var body = ByteBuffer()
    /// Waits for memory.
    var reservation: Task<Void, Never>?
    /// Gets the answer. It keeps the connection's handler until then.
    private var connection: LaneHandler?

    init(_ head: HTTPRequestHead, path: String, client: IPAddress?, _ loop: LaneLoop, connection: LaneHandler) {
        self.head = head
        self.path = path
        self.client = client
        self.loop = loop
        self.connection = connection
        announced = head.headers.first(name: "Content-Length").flatMap { Int($0) }
        isLast = head.headers.first(name: "Connection") == "close"
        bytesIn = announced ?? 0
    }

    /// The value of a header, the values of a repeated one with commas between them; `nil` without it.
    package subscript(name: HTTPField.Name) -> String? { Self.value(of: name, in: head) }

    static func value(of name: HTTPField.Name, in head: HTTPRequestHead) -> String? {
        let values = head.headers[name.rawName]
        return values.count > 1 ? values.joined(separator: ", ") : values.first
    }

    /// Gives the body to `read`, and what it returns to `then`. The body's memory is free when `read` has returned.
    ///
    /// ``padding`` bytes may be read after those of the body. A long body is given to `readElsewhere` instead, outside
    /// of the event loop.
    package func withBody<T: Sendable>(
        _ read: (UnsafeRawBufferPointer) -> T,
        elsewhere readElsewhere: @escaping @Sendable (UnsafeRawBufferPointer) -> T,
        then: @escaping (T) -> Void
    ) {
        guard bytesIn > Self.loopBytes, let eventLoop = connection?.eventLoop else {
            let result = Self.read(body, read)
            release()
            return then(result)
        }
        let back = NIOLoopBound((request: self, then: then), eventLoop: eventLoop)
        Self.readInTask(body, readElsewhere) { result in
            eventLoop.execute {
                back.value.request.release()
                back.value.then(result)
            }
        }
    }

    private static func read<T>(_ body: ByteBuffer, _ read: (UnsafeRawBufferPointer) -> T) -> T {
        body.withUnsafeReadableBytes { read(UnsafeRawBufferPointer(rebasing: $0.dropLast(padding))) }
    }

    private static func readInTask<T: Sendable>(
        _ body: ByteBuffer, _ read: @escaping @Sendable (UnsafeRawBufferPointer) -> T,
        then: @escaping @Sendable (T) -> Void
    ) {
        Task { then(Self.read(body, read)) }
    }

    /// Answers the request.
    package func answer(_ answer: LaneAnswer) {
        let connection = connection
        self.connection = nil
        connection?.finish(self, answer)
    }

    /// Answers the request with what `error` means for the client.
    package func fail(_ error: any Error) {
        let connection = connection
        self.connection = nil
        connection?.fail(self, error)
    }

    // MARK: - For the connection's handler

    /// The bytes of the body that have come.
    var bodyBytes: Int { body.readableBytes }

    /// Takes memory for the body up to `bytes`, if it is free.
    func reserveIfFree(_ bytes: Int) -> Bool {
        let budget = loop.lane.bodies.budget
        guard budget.takeIfFree(bytes - reserved, holding: reserved, for: client?.customer) else { return false }
        noteReserved(bytes - reserved)
        return true
    }

    /// Waits for memory for the body up to `bytes`, then calls `then` on the event loop, with the reason if there is
    /// none in time.
    func reserve(_ bytes: Int, _ then: @escaping ((any Error)?) -> Void) {
        guard let eventLoop = connection?.eventLoop else { return }
        let back = NIOLoopBound((request: self, then: then), eventLoop: eventLoop)
        let (budget, held, client) = (loop.lane.bodies.budget, reserved, client?.customer)
        reservation = Task {
            var failure: (any Error)?
            do { try await budget.acquire(bytes - held, holding: held, for: client) } catch { failure = error }
            eventLoop.execute { [failure] in
                if failure == nil { back.value.request.noteReserved(bytes - held) }
                back.value.then(failure)
            }
        }
    }

    func append(_ chunk: ByteBuffer) { body.writeImmutableBuffer(chunk) }

    /// Ends the body.
    func complete() {
        bytesIn = body.readableBytes
        body.writeRepeatingByte(0, count: Self.padding)
    }

    /// Frees the body and its reservation. The request is not answered.
    func drop() {
        reservation?.cancel()
        connection = nil
        release()
    }

    private func noteReserved(_ bytes: Int) {
        reserved += bytes
        if body.capacity == 0 { body = loop.takeBody() }
        body.reserveCapacity(reserved + Self.padding)
    }

    private func release() {
        loop.giveBack(body)
        body = ByteBuffer()
        if reserved > 0 { loop.lane.bodies.budget.release(reserved, for: client?.customer) }
        reserved = 0
    }
}
