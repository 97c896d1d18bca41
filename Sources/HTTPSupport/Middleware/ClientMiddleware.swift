package import Bootstrap
internal import Domain
internal import HTTPTypes
package import Hummingbird
internal import Synchronization

/// Finds the client of a request that came through proxies.
///
/// `X-Forwarded-For` is read from the right, past the addresses of trusted proxies. The first other address is the
/// client. Addresses left of it may be forged.
package struct ClientAddressMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let trusted: [CIDR]

    /// - Parameter trusted: The proxies. Without any, the connection's peer is the client.
    package init(trusting trusted: [CIDR]) {
        self.trusted = trusted
    }

    /// Sets the address of the client, and answers the request.
    ///
    /// - Throws: What `next` throws.
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        guard !trusted.isEmpty, let peer = context.clientAddress else { return try await next(request, context) }
        var context = context
        context.clientAddress = client(peer, forwardedFor: request.headers[values: .forwardedFor])
        return try await next(request, context)
    }

    /// The client of a connection from `peer` with the `X-Forwarded-For` lines `forwardedFor`.
    func client(_ peer: IPAddress, forwardedFor: [String]) -> IPAddress {
        var client = peer
        let hops = forwardedFor.joined(separator: ",").split(separator: ",").reversed()
        for hop in hops where isTrusted(client) {
            guard let address = IPAddress(hop.trimmingSpaces) else { break }
            client = address
        }
        return client
    }

    private func isTrusted(_ address: IPAddress) -> Bool {
        trusted.contains { $0.contains(address) }
    }
}

/// Admits only clients of the listed address ranges, and answers others 403. Off where no list is configured.
package struct AllowListMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let allowed: [CIDR]

    /// A middleware that admits these ranges.
    package init(_ allowed: [CIDR]) {
        self.allowed = allowed
    }

    /// - Throws: ``AppError`` `.forbidden` when the address is not listed.
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        try check(context.clientAddress)
        return try await next(request, context)
    }

    /// - Throws: ``AppError`` `.forbidden` when the address is not listed.
    func check(_ client: IPAddress?) throws(AppError) {
        guard let client, allowed.contains(where: { $0.contains(client) }) else {
            throw AppError(.forbidden, "This address is not allowed.")
        }
    }
}

/// Answers a client's requests above its rate with 429 and `Retry-After`. Off where no rate is configured.
///
/// A client without an address, on a Unix socket, is not limited.
package struct RateLimitMiddleware: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let limiter: RateLimiter<IPAddress>

    /// A middleware that limits clients by `limiter`.
    package init(_ limiter: RateLimiter<IPAddress>) {
        self.limiter = limiter
    }

    /// - Throws: ``AppError`` `.tooManyRequests` when the client is above its rate.
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        try check(context.clientAddress)
        return try await next(request, context)
    }

    /// - Throws: ``AppError`` `.tooManyRequests` when the client is above its rate.
    func check(_ client: IPAddress?) throws(AppError) {
        if let client, let seconds = limiter.wait(for: client.customer) {
            throw AppError(.tooManyRequests, "Too many requests.", retryAfter: seconds)
        }
    }
}

/// A token bucket for each client: `burst` requests at once, `rate` requests a second in the long run.
///
/// Memory is bounded by two generations of at most `capacity` buckets. When the new generation is full, the old one is
/// dropped. A dropped client starts with a full bucket, so a flood of addresses admits requests rather than refusing
/// them.
package final class RateLimiter<Client: Hashable & Sendable>: Sendable {
    private struct Bucket {
        var tokens: Double
        var updated: ContinuousClock.Instant
    }

    private struct Generations {
        var young: [Client: Bucket] = [:]
        var old: [Client: Bucket] = [:]
    }

    private let rate: Double
    private let burst: Double
    private let capacity: Int
    private let now: @Sendable () -> ContinuousClock.Instant
    private let generations = Mutex(Generations())

    /// - Parameters:
    ///   - rate: Requests a second, above 0.
    ///   - burst: Requests at once, at least 1.
    ///   - capacity: Clients in one generation.
    ///   - now: The clock.
    package init(
        rate: Double, burst: Int, capacity: Int = 10_000,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.rate = rate
        self.burst = Double(burst)
        self.capacity = capacity
        self.now = now
    }

    /// Takes a token of `client`: `nil` if there was one, else the seconds until there is one, at least 1.
    package func wait(for client: Client) -> Int? {
        let now = now()
        return generations.withLock { generations in
            var bucket =
                generations.young[client] ?? generations.old[client] ?? Bucket(tokens: burst, updated: now)
            bucket.tokens = min(burst, bucket.tokens + (now - bucket.updated) / .seconds(1) * rate)
            bucket.updated = now
            let isAdmitted = bucket.tokens >= 1
            if isAdmitted { bucket.tokens -= 1 }
            if generations.young[client] == nil, generations.young.count >= capacity {
                generations = Generations(old: generations.young)
            }
            generations.young[client] = bucket
            return isAdmitted ? nil : max(1, Int(((1 - bucket.tokens) / rate).rounded(.up)))
        }
    }

    /// The number of clients in memory.
    var count: Int { generations.withLock { $0.young.count + $0.old.count } }
}

/// Admits only requests with a webhook key, before any byte of the body is read.
///
/// The key is in `X-API-Key`, else in `Authorization`, with or without `Bearer `.
package struct WebhookAuthentication: RouterMiddleware {
    package typealias Context = AppRequestContext

    private let keys: WebhookKeys

    /// A middleware that accepts `keys`.
    package init(keys: WebhookKeys) {
        self.keys = keys
    }

    /// - Throws: ``AppError`` `.unauthorized` when the key is wrong or missing.
    package func handle(
        _ request: Request, context: AppRequestContext,
        next: (Request, AppRequestContext) async throws -> Response
    ) async throws -> Response {
        try Self.check(keys) { request.headers[$0] }
        return try await next(request, context)
    }

    /// Checks the key in a request's headers, of which `header` reads one.
    ///
    /// - Throws: ``AppError`` `.unauthorized` when the key is wrong or missing.
    static func check(_ keys: WebhookKeys, _ header: (HTTPField.Name) -> String?) throws(AppError) {
        let written = header(.apiKey) ?? header(.authorization) ?? ""
        let trimmed = written.trimmingSpaces
        // Laravel compares the scheme case-sensitively, against RFC 9110 §11.1.
        let key = trimmed.hasPrefix("Bearer ") ? trimmed.dropFirst("Bearer ".count).trimmingSpaces : trimmed
        guard keys.accepts(String(key)) else { throw AppError(.unauthorized, "Invalid webhook key") }
    }
}
