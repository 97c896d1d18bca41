package import Bootstrap
internal import Domain
internal import HTTPTypes
package import Hummingbird

/// Reads request bodies under a limit for each and a budget for all, so that memory is bounded whatever is sent.
package struct BodyReader: Sendable {
    /// The first reservation for a body whose length nobody announced; it doubles as the body grows.
    private static let unannounced = 64 << 10

    private let limit: Int
    private let budget: ByteBudget

    /// - Parameters:
    ///   - limit: The longest body, in bytes.
    ///   - budget: The bytes of all bodies in memory.
    package init(limit: Int, budget: ByteBudget) {
        self.limit = limit
        self.budget = budget
    }

    /// `<prefix>_MAX_BODY_BYTES`, the longest body (`limit` where it is not set), and `<prefix>_MAX_INFLIGHT_BYTES`, all bodies in
    /// memory together.
    package init(reading settings: SettingsReader, prefix: String, limit: Int = 64 << 20) {
        let sizes = 1 << 10...1 << 30
        self.init(
            limit: settings.bytes("\(prefix)_MAX_BODY_BYTES", in: sizes, default: limit),
            budget: ByteBudget(capacity: settings.bytes("\(prefix)_MAX_INFLIGHT_BYTES", in: sizes, default: 32 << 20)))
    }

    /// Hands the whole body of `request` to `body` and gives its memory back when `body` returns.
    ///
    /// The bytes are valid inside `body` only; 64 zeroed bytes follow them, as simdjson needs. The length a sender announces
    /// is reserved before the first byte is read.
    /// - Throws: `AppError` `.tooLarge` over the limit, `.unavailable` when no memory came free in time, `.invalid` when the
    ///   body ended early; what `body` throws.
    package func withBody<T>(
        of request: Request, context: AppRequestContext, _ body: (UnsafeMutableRawBufferPointer) throws -> T
    ) async throws -> T {
        let announced = request.headers[.contentLength].flatMap { Int($0) }
        if let announced, announced > limit { throw tooLarge }
        var reserved = announced ?? min(Self.unannounced, limit)
        try await budget.acquire(reserved)
        defer { budget.release(reserved) }

        var buffer = BodyBuffer(capacity: reserved)
        for try await chunk in request.body {
            let length = buffer.count + chunk.readableBytes
            if length > limit { throw tooLarge }
            if length > buffer.capacity {
                let larger = min(limit, max(length, 2 * reserved))
                try await budget.acquire(larger - reserved, holding: reserved)
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

    private var tooLarge: AppError { AppError(.tooLarge, "The body is over the limit of \(limit) bytes.") }
}
