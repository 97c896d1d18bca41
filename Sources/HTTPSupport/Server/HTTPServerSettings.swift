package import Bootstrap
package import NIOSSL

/// How a service listens and whom it lets in; each variable begins with the service's prefix, as in `WEBHOOK_PORT`.
package struct HTTPServerSettings: Sendable {
    /// Requests a second and at once, for each client.
    package struct RateLimit: Sendable, Equatable {
        package var rate: Int
        package var burst: Int

        package init(rate: Int, burst: Int) {
            self.rate = rate
            self.burst = burst
        }
    }

    package var host: String
    /// 0 lets the system choose; the log line at start names the real one.
    package var port: Int
    /// Certificate and key; `nil` where a proxy in front terminates TLS.
    package var tls: TLSConfiguration?
    /// The time after which a silent connection is closed, also in the middle of a request, and one whose client takes nothing
    /// of its answer.
    package var idleTimeout: Duration
    package var maxConnections: Int
    /// Proxies whose `X-Forwarded-For` is believed.
    package var trustedProxies: [CIDR]
    /// Who may connect; everybody when empty.
    package var allowedAddresses: [CIDR]
    /// `nil` for no limit.
    package var rateLimit: RateLimit?

    package init(
        host: String = "127.0.0.1", port: Int, tls: TLSConfiguration? = nil, idleTimeout: Duration = .seconds(15),
        maxConnections: Int = 256, trustedProxies: [CIDR] = [], allowedAddresses: [CIDR] = [],
        rateLimit: RateLimit? = nil
    ) {
        self.host = host
        self.port = port
        self.tls = tls
        self.idleTimeout = idleTimeout
        self.maxConnections = maxConnections
        self.trustedProxies = trustedProxies
        self.allowedAddresses = allowedAddresses
        self.rateLimit = rateLimit
    }

    /// `<prefix>_HOST`, `_PORT`, `_TLS_CERTIFICATE` and `_TLS_KEY` (PEM files), `_IDLE_TIMEOUT`, `_MAX_CONNECTIONS`,
    /// `_TRUSTED_PROXIES`, `_ALLOW`, `_RATE_LIMIT` (a second; 0 is off) and `_RATE_BURST`.
    package init(reading settings: SettingsReader, prefix: String, defaultPort: Int) {
        let idle = Duration.seconds(1) ... .seconds(15)
        let rate = settings.int("\(prefix)_RATE_LIMIT", in: 0...1_000_000, default: 0)
        let burst = settings.int("\(prefix)_RATE_BURST", in: 1...1_000_000, default: max(1, 2 * rate))
        self.init(
            host: settings.string("\(prefix)_HOST", default: "127.0.0.1"),
            port: settings.int("\(prefix)_PORT", in: 0...65535, default: defaultPort),
            tls: TLSFiles(reading: settings, prefix: prefix)?.configuration(settings),
            idleTimeout: settings.duration("\(prefix)_IDLE_TIMEOUT", in: idle, default: .seconds(15)),
            maxConnections: settings.int("\(prefix)_MAX_CONNECTIONS", in: 1...100_000, default: 256),
            trustedProxies: settings.cidrs("\(prefix)_TRUSTED_PROXIES"),
            allowedAddresses: settings.cidrs("\(prefix)_ALLOW"),
            rateLimit: rate == 0 ? nil : RateLimit(rate: rate, burst: burst))
    }
}
