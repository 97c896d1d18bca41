extension ConnectionConfiguration {
    /// The configuration that `postgresql://user:password@host:port/database?sslmode=…` writes (PostgreSQL, "Connection URIs").
    ///
    /// Throws `PostgresError` of kind `invalidConfiguration`, which says what is wrong and never repeats the password.
    package init(url: String) throws {
        let parts = try URLParts(url)
        self.init(database: "", user: "postgres")
        try applyCredentials(parts.credentials)
        try applyAddress(parts.address)
        if !parts.path.isEmpty {
            database = try Self.decode(parts.path, "database")
        }
        for pair in parts.query.split(separator: "&") {
            let (name, value) = pair.divided(at: "=")
            try apply(parameter: Self.decode(name, "parameter name"), Self.decode(value ?? "", "parameter value"))
        }
        if database.isEmpty {
            database = user
        }
    }

    private mutating func applyCredentials(_ credentials: Substring?) throws {
        guard let credentials else { return }
        let (name, secret) = credentials.divided(at: ":")
        user = try Self.decode(name, "user")
        password = try secret.map { try Self.decode($0, "password") }
    }

    private mutating func applyAddress(_ address: Substring) throws {
        var name = address
        var number: Substring?
        if address.first == "[" {
            guard let end = address.firstIndex(of: "]") else { throw Self.malformed("host") }
            name = address[address.index(after: address.startIndex)..<end]
            let tail = address[address.index(after: end)...]
            guard tail.isEmpty || tail.first == ":" else { throw Self.malformed("host") }
            number = tail.isEmpty ? nil : tail.dropFirst()
        } else {
            (name, number) = address.divided(at: ":")
        }
        if !name.isEmpty {
            host = try Self.decode(name, "host")
        }
        if let number, !number.isEmpty {
            try apply(parameter: "port", String(number))
        }
    }

    private mutating func apply(parameter name: String, _ value: String) throws {
        switch name {
        case "host": host = value
        case "port":
            guard let number = UInt16(value), number > 0 else { throw Self.malformed("port") }
            port = Int(number)
        case "dbname": database = value
        case "user": user = value
        case "password": password = value
        case "sslmode": sslMode = value
        case "sslrootcert": sslRootCertificate = value
        case "application_name": applicationName = value
        case "connect_timeout":
            guard let seconds = UInt16(value) else { throw Self.malformed("connect_timeout") }
            connectTimeout = .seconds(Int(seconds))
        default:
            throw PostgresError(.invalidConfiguration, "database URL has an unknown parameter")
        }
    }

    private static func decode(_ text: some StringProtocol, _ part: String) throws -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8.makeIterator()
        while let byte = rest.next() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.next(), let low = rest.next(),
                let value = UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16), value != 0
            else { throw malformed(part) }
            bytes.append(value)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else { throw malformed(part) }
        return decoded
    }

    fileprivate static func malformed(_ part: String) -> PostgresError {
        PostgresError(.invalidConfiguration, "database URL has a malformed \(part)")
    }
}

/// The parts of a connection URL, still percent-encoded.
private struct URLParts {
    var credentials: Substring?
    var address: Substring
    var path: Substring
    var query: Substring

    init(_ url: String) throws {
        guard let scheme = ["postgresql://", "postgres://"].first(where: url.hasPrefix) else {
            throw ConnectionConfiguration.malformed("scheme (postgresql:// is expected)")
        }
        let (location, query) = url.dropFirst(scheme.count).divided(at: "?")
        let (authority, path) = location.divided(at: "/")
        self.query = query ?? ""
        self.path = path ?? ""
        if let end = authority.lastIndex(of: "@") {
            credentials = authority[..<end]
            address = authority[authority.index(after: end)...]
        } else {
            address = authority
        }
    }
}

extension Substring {
    /// What stands before and after the first `separator`; no second part without one.
    fileprivate func divided(at separator: Character) -> (Substring, Substring?) {
        guard let index = firstIndex(of: separator) else { return (self, nil) }
        return (self[..<index], self[self.index(after: index)...])
    }
}
