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

/// The PEM files of a server's certificate chain and private key, proved at start to belong together.
struct TLSFiles {
    private let certificateName: String
    private let keyName: String
    private let certificate: String
    private let key: String

    /// `<prefix>_TLS_CERTIFICATE` and `<prefix>_TLS_KEY`: both, or neither. One alone is a problem of `settings`.
    init?(reading settings: SettingsReader, prefix: String) {
        certificateName = "\(prefix)_TLS_CERTIFICATE"
        keyName = "\(prefix)_TLS_KEY"
        let files = (settings.string(certificateName), settings.string(keyName))
        guard let certificate = files.0, let key = files.1 else {
            if files.0 != nil { settings.reject(keyName, "is not set, but \(certificateName) is") }
            if files.1 != nil { settings.reject(certificateName, "is not set, but \(keyName) is") }
            return nil
        }
        self.certificate = certificate
        self.key = key
    }

    /// A server's TLS under these files; what is wrong with them is a problem of `settings`.
    func configuration(_ settings: SettingsReader) -> TLSConfiguration? {
        let chain = problem(settings, certificateName, certificate) { try NIOSSLCertificate.fromPEMFile(certificate) }
        let secret = problem(settings, keyName, key) { try NIOSSLPrivateKey(file: key, format: .pem) }
        guard let chain, let secret else { return nil }
        let configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(secret))
        guard (try? NIOSSLContext(configuration: configuration)) != nil else {
            settings.reject(keyName, "is not the key of the certificate in \(certificateName)")
            return nil
        }
        return configuration
    }

    private func problem<T>(
        _ settings: SettingsReader, _ name: String, _ path: String, _ load: () throws -> T
    ) -> T? {
        if let loaded = try? load() { return loaded }
        settings.reject(name, "the file '\(path)' cannot be read as PEM")
        return nil
    }
}
