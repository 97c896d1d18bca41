package import Bootstrap
package import NIOSSL

/// How a service listens and which clients it admits. Each variable begins with the service's prefix, as in
/// `WEBHOOK_PORT`.
package struct HTTPServerSettings: Sendable {
    /// The rate of one client: requests a second, and requests at once.
    package struct RateLimit: Sendable, Equatable {
        /// Requests a second in the long run.
        package var rate: Int
        /// Requests at once.
        package var burst: Int

        /// A limit with these values.
        package init(rate: Int, burst: Int) {
            self.rate = rate
            self.burst = burst
        }
    }

    /// The address on which the service listens.
    package var host: String
    /// 0 lets the system choose a port. The log line at start names it.
    package var port: Int
    /// Certificate and key; `nil` where a proxy in front terminates TLS.
    package var tls: TLSConfiguration?
    /// The time after which a silent connection is closed, also in the middle of a request, and a connection whose
    /// client takes nothing of its answer.
    package var idleTimeout: Duration
    /// The most connections at once.
    package var maxConnections: Int
    /// Proxies whose `X-Forwarded-For` is trusted.
    package var trustedProxies: [CIDR]
    /// The addresses that may connect; all where it is empty.
    package var allowedAddresses: [CIDR]
    /// `nil` for no limit.
    package var rateLimit: RateLimit?

    /// Settings with these values.
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

    /// The settings of a server. The names begin with `prefix`, as in `WEBHOOK_PORT`.
    package static func table(prefix: String, defaultPort: Int) -> SettingsTable {
        SettingsTable([
            Setting(
                "\(prefix)_HOST", .text, default: "127.0.0.1",
                "The address to listen on; 0.0.0.0 is every IPv4 address."),
            Setting(
                "\(prefix)_PORT", .number(0...65535), default: "\(defaultPort)",
                "The port to listen on; with 0 the system chooses one."),
            Setting(
                "\(prefix)_IDLE_TIMEOUT", .duration(.seconds(1) ... .seconds(15)), default: "15s",
                "The time after which a connection is closed that is silent, or whose client reads nothing."),
            Setting(
                "\(prefix)_MAX_CONNECTIONS", .number(1...100_000), default: "256",
                "How many connections are open at once; more wait to be accepted."),
            Setting(
                "\(prefix)_TRUSTED_PROXIES", .networks,
                "The networks of the reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."),
            Setting(
                "\(prefix)_ALLOW", .networks, "The networks whose clients are served; all where it is empty."),
            Setting(
                "\(prefix)_RATE_LIMIT", .number(0...1_000_000), default: "0",
                "Requests a second from one address; 0 is no limit."),
            Setting(
                "\(prefix)_RATE_BURST", .number(1...1_000_000), default: "",
                "Requests at once from one address; twice the rate where it is empty."),
        ]) + TLSFiles.table(prefix: prefix)
    }

    /// Reads ``table(prefix:defaultPort:)``.
    package init(reading settings: SettingsReader, prefix: String, defaultPort: Int) {
        let table = Self.table(prefix: prefix, defaultPort: defaultPort)
        let rate = settings.int(table["\(prefix)_RATE_LIMIT"])
        let burst = settings.int(table["\(prefix)_RATE_BURST"].defaulting(to: "\(max(1, 2 * rate))"))
        self.init(
            host: settings.string(table["\(prefix)_HOST"]), port: settings.int(table["\(prefix)_PORT"]),
            tls: TLSFiles(reading: settings, prefix: prefix)?.configuration(settings),
            idleTimeout: settings.duration(table["\(prefix)_IDLE_TIMEOUT"]),
            maxConnections: settings.int(table["\(prefix)_MAX_CONNECTIONS"]),
            trustedProxies: settings.cidrs(table["\(prefix)_TRUSTED_PROXIES"]),
            allowedAddresses: settings.cidrs(table["\(prefix)_ALLOW"]),
            rateLimit: rate == 0 ? nil : RateLimit(rate: rate, burst: burst))
    }
}

/// The PEM files of a server's certificate chain and private key. The start checks that they belong together.
struct TLSFiles {
    private let certificateName: String
    private let keyName: String
    private let certificate: String
    private let key: String

    static func table(prefix: String) -> SettingsTable {
        [
            Setting(
                "\(prefix)_TLS_CERTIFICATE", .text,
                "The PEM file of the certificate chain. Empty means plain HTTP, for a reverse proxy that ends TLS."
            ),
            Setting("\(prefix)_TLS_KEY", .text, "The PEM file of the certificate's private key."),
        ]
    }

    /// Reads ``table(prefix:)``: both files, or neither. One alone is a problem of `settings`.
    init?(reading settings: SettingsReader, prefix: String) {
        certificateName = "\(prefix)_TLS_CERTIFICATE"
        keyName = "\(prefix)_TLS_KEY"
        let table = Self.table(prefix: prefix)
        let files = (settings.optionalString(table[certificateName]), settings.optionalString(table[keyName]))
        guard let certificate = files.0, let key = files.1 else {
            if files.0 != nil { settings.reject(keyName, "is not set, but \(certificateName) is") }
            if files.1 != nil { settings.reject(certificateName, "is not set, but \(keyName) is") }
            return nil
        }
        self.certificate = certificate
        self.key = key
    }

    /// A server's TLS with these files. An unusable file is a problem of `settings`.
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
