internal import Bootstrap
internal import NIOSSL

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
