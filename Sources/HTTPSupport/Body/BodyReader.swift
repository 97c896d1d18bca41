package import Bootstrap
internal import Domain
internal import HTTPTypes
package import Hummingbird

/// Reads request bodies under a limit for each and a budget for all, so that memory is bounded whatever is sent.
package struct BodyReader: Sendable {
    /// Who sends the bodies.
    package enum Senders: Sendable {
        /// Programs that have shown a key before: the length they announce is reserved at once, so that of two large
        /// bodies one is read to its end.
        case trusted
        /// Anyone: memory is reserved as bytes arrive, whatever length is announced, and a quarter of it is the most
        /// for one client.
        case anyone
    }

    /// The least that is reserved; it doubles as the body grows.
    private static let smallest = 16 << 10

    /// How long a whole body may take.
    package let deadline: Duration
    private let limit: Int
    private let budget: ByteBudget
    private let senders: Senders

    /// - Parameters:
    ///   - limit: The longest body, in bytes.
    ///   - budget: The bytes of all bodies in memory.
    ///   - senders: Who sends them.
    ///   - deadline: How long a whole body may take, however its bytes drip.
    package init(
        limit: Int, budget: ByteBudget, senders: Senders = .trusted, deadline: Duration = .seconds(120)
    ) {
        self.limit = limit
        self.budget = budget
        self.senders = senders
        self.deadline = deadline
    }

    /// `<prefix>_MAX_BODY_BYTES`, the longest body (`limit` where it is not set), and `<prefix>_MAX_INFLIGHT_BYTES`, all bodies in
    /// memory together.
    package init(
        reading settings: SettingsReader, prefix: String, limit: Int = 64 << 20, senders: Senders = .trusted,
        deadline: Duration = .seconds(120)
    ) {
        let sizes = 1 << 10...1 << 30
        let limit = settings.bytes("\(prefix)_MAX_BODY_BYTES", in: sizes, default: limit)
        let capacity = settings.bytes("\(prefix)_MAX_INFLIGHT_BYTES", in: sizes, default: 32 << 20)
        let budget = ByteBudget(capacity: capacity, share: senders == .anyone ? capacity / 4 : nil)
        self.init(limit: limit, budget: budget, senders: senders, deadline: deadline)
    }

    /// Hands the whole body of `request` to `body` and gives its memory back when `body` returns.
    ///
    /// The bytes are valid inside `body` only; 64 zeroed bytes follow them, as simdjson needs.
    /// - Throws: `AppError` `.tooLarge` over the limit, `.unavailable` when no memory came free in time, `.timeout`
    ///   when the body took longer than ``deadline``, `.invalid` when it ended early; what `body` throws.
    package func withBody<T>(
        of request: Request, context: AppRequestContext, _ body: (UnsafeMutableRawBufferPointer) throws -> T
    ) async throws -> T {
        let announced = request.headers[.contentLength].flatMap { Int($0) }
        if let announced, announced > limit { throw tooLarge }
        let client = context.clientAddress?.customer
        var reserved = senders == .trusted ? announced ?? min(Self.smallest, limit) : 0
        if reserved > 0 { try await budget.acquire(reserved, for: client) }
        defer { if reserved > 0 { budget.release(reserved, for: client) } }

        let end = ContinuousClock.now + deadline
        var buffer = BodyBuffer(capacity: reserved)
        for try await chunk in request.body {
            let length = buffer.count + chunk.readableBytes
            if length > limit { throw tooLarge }
            guard ContinuousClock.now < end else { throw AppError(.timeout, Self.tooSlow) }
            if length > buffer.capacity {
                // Of what is announced never more than that.
                let larger = max(length, min(announced ?? limit, max(Self.smallest, 2 * reserved)))
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

    /// What the sender of a slow body reads.
    package static let tooSlow = "The body took too long. Send it in one go."

    private var tooLarge: AppError { AppError(.tooLarge, "The body is over the limit of \(limit) bytes.") }
}
