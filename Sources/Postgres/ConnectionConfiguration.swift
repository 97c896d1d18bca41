/// How to reach a PostgreSQL database, and how its sessions behave.
///
/// Behind a pooler in transaction mode, switch `preparesStatements` off. Let the pooler ignore the start-up parameter
/// `options`, which carries the timeouts, the search path and ``SessionSetting``. `codexflow grants` sets them on the
/// role instead.
package struct ConnectionConfiguration: Sendable {
    /// Where a server listens.
    package struct Address: Sendable, Hashable {
        /// A host name, an address, or the directory of a Unix-domain socket (begins with `/`).
        package var host: String
        /// The TCP port.
        package var port: Int

        /// An address with these values.
        package init(host: String, port: Int) {
            (self.host, self.port) = (host, port)
        }
    }

    /// The server that a session accepts (PostgreSQL, "target_session_attrs").
    package enum Access: String, Sendable, CaseIterable {
        /// Any server that answers, also a standby.
        case any
        /// A server that accepts writes now.
        case readWrite = "read-write"
    }

    /// A host name, an address, or the directory of a Unix-domain socket (begins with `/`).
    package var host: String
    /// The TCP port.
    package var port: Int
    /// Further servers of the same database. They are tried in this order, after the first, until one is accepted.
    package var otherAddresses: [Address] = []
    /// The server that a session accepts; `nil` for one that accepts writes where several are named, else for any.
    package var access: Access?
    /// The name of the database.
    package var database: String
    /// The name of the role.
    package var user: String
    /// The password; `nil` if the server needs none.
    package var password: String?
    /// The name of the sessions in `pg_stat_activity`.
    package var applicationName: String
    /// libpq's `sslmode`; `nil` leaves its default, `prefer`.
    package var sslMode: String?
    /// The path of a PEM file with the authorities to trust, for `sslMode` `verify-ca` and `verify-full`.
    package var sslRootCertificate: String?
    /// The time after which a connect to one address fails, in whole seconds. libpq waits at least 2.
    package var connectTimeout: Duration
    /// The time after which PostgreSQL cancels a statement; zero is never.
    package var statementTimeout: Duration
    /// The time after which PostgreSQL gives up waiting for a lock; `nil` waits as long as the statement may run.
    package var lockTimeout: Duration?
    /// The time after which PostgreSQL ends a session that is idle in an open transaction.
    package var idleInTransactionTimeout: Duration
    /// Whether statements are prepared once and kept; off behind a pooler in transaction mode.
    package var preparesStatements: Bool
    /// The schemas in which a statement finds functions, operators, types and tables that it names without a schema.
    package var searchPath: String

    /// Only PostgreSQL's own schema. With another schema in the path, a function that somebody creates there may fit a
    /// call better than PostgreSQL's own, and would run with our rights. So statements name the schema of each table.
    /// `pg_temp` is named because the schema of temporary tables would come first otherwise.
    package static let pinnedSearchPath = "pg_catalog, pg_temp"

    /// A configuration with these values.
    package init(
        host: String = "127.0.0.1", port: Int = 5432, database: String, user: String, password: String? = nil,
        applicationName: String = "codexflow", sslMode: String? = nil, sslRootCertificate: String? = nil,
        connectTimeout: Duration = .seconds(5), statementTimeout: Duration = .seconds(30), lockTimeout: Duration? = nil,
        idleInTransactionTimeout: Duration = .seconds(60), preparesStatements: Bool = true,
        searchPath: String = pinnedSearchPath
    ) {
        self.host = host
        self.port = port
        self.database = database
        self.user = user
        self.password = password
        self.applicationName = applicationName
        self.sslMode = sslMode
        self.sslRootCertificate = sslRootCertificate
        self.connectTimeout = connectTimeout
        self.statementTimeout = statementTimeout
        self.lockTimeout = lockTimeout
        self.idleInTransactionTimeout = idleInTransactionTimeout
        self.preparesStatements = preparesStatements
        self.searchPath = searchPath
    }

    /// The same database, where a session is only accepted on a server that accepts writes now.
    package var writing: ConnectionConfiguration {
        var other = self
        other.access = .readWrite
        return other
    }

    /// Whether a session is only accepted on a server that accepts writes.
    package var isWriting: Bool { (access ?? (otherAddresses.isEmpty ? .any : .readWrite)) == .readWrite }

    private var addresses: [Address] { [Address(host: host, port: port)] + otherAddresses }

    /// libpq's connection parameters (PostgreSQL, "Parameter Key Words").
    var parameters: [(keyword: String, value: String)] {
        let always = [
            ("host", addresses.map(\.host).joined(separator: ",")),
            ("port", addresses.map { String($0.port) }.joined(separator: ",")), ("dbname", database), ("user", user),
            ("target_session_attrs", (isWriting ? Access.readWrite : .any).rawValue),
            ("application_name", applicationName), ("client_encoding", "UTF8"),
            ("connect_timeout", String(connectTimeout.milliseconds.dividedRoundingUp(by: 1000))), ("options", options),
            // A machine that vanished is noticed within eight seconds, so that a standby that took over is used soon.
            // This does not limit how long a statement runs: the kernel of the server's machine answers the probes.
            ("keepalives", "1"), ("keepalives_idle", "3"), ("keepalives_interval", "1"), ("keepalives_count", "5"),
            ("tcp_user_timeout", "5000"),
        ]
        let optional = [("password", password), ("sslmode", sslMode), ("sslrootcert", sslRootCertificate)]
        return always + optional.compactMap { keyword, value in value.map { (keyword, $0) } }
    }

    /// The session's settings as command-line options, in which a backslash escapes (PostgreSQL, "options").
    private var options: String {
        let settings =
            SessionSetting.pinned.map { ($0.name, $0.value) } + [
                ("search_path", searchPath), ("statement_timeout", String(statementTimeout.milliseconds)),
                ("lock_timeout", String(lockTimeout?.milliseconds ?? 0)),
                ("idle_in_transaction_session_timeout", String(idleInTransactionTimeout.milliseconds)),
            ]
        return settings.map { name, value in "-c \(name)=\(value.escapedOption)" }.joined(separator: " ")
    }
}

extension ConnectionConfiguration: CustomStringConvertible, CustomReflectable {
    /// The address, database and role, without the password.
    package var description: String {
        "\(user)@\(addresses.map { "\($0.host):\($0.port)" }.joined(separator: ","))/\(database)"
    }

    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension String {
    fileprivate var escapedOption: String {
        reduce(into: "") { text, character in
            if character == "\\" || character.isWhitespace {
                text.append("\\")
            }
            text.append(character)
        }
    }
}

extension Duration {
    /// Milliseconds, rounded up. A limit never becomes zero, which would mean no limit.
    fileprivate var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1000 + attoseconds.dividedRoundingUp(by: 1_000_000_000_000_000)
    }
}

extension Int64 {
    fileprivate func dividedRoundingUp(by divisor: Int64) -> Int64 {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder > 0 ? quotient + 1 : quotient
    }
}

extension ConnectionConfiguration {
    /// The configuration that `postgresql://user:password@host:port,host:port/database?sslmode=…` writes (PostgreSQL,
    /// "Connection URIs").
    ///
    /// - Throws: ``PostgresError`` `.invalidConfiguration`, which never contains the password.
    package init(url: String) throws {
        let parts = try URLParts(url)
        self.init(database: "", user: "postgres")
        try applyCredentials(parts.credentials)
        var (hosts, ports) = try Self.addresses(parts.address)
        if !parts.path.isEmpty {
            database = try Self.decode(parts.path, "database")
        }
        for pair in parts.query.split(separator: "&") {
            let (name, encoded) = pair.divided(at: "=")
            let value = try Self.decode(encoded ?? "", "parameter value")
            switch try Self.decode(name, "parameter name") {
            case "host": hosts = Self.list(value)
            case "port": ports = try Self.list(value).map(Self.port)
            case let other: try apply(parameter: other, value)
            }
        }
        try apply(hosts, ports)
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

    /// The hosts and ports of `host:port,[address]:port`; what is left out is empty, or `nil`.
    private static func addresses(_ text: Substring) throws -> (hosts: [String], ports: [Int?]) {
        let pairs = try text.split(separator: ",", omittingEmptySubsequences: false).map { address in
            var name = address
            var number: Substring?
            if address.first == "[" {
                guard let end = address.firstIndex(of: "]") else { throw malformed("host") }
                name = address[address.index(after: address.startIndex)..<end]
                let tail = address[address.index(after: end)...]
                guard tail.isEmpty || tail.first == ":" else { throw malformed("host") }
                number = tail.isEmpty ? nil : tail.dropFirst()
            } else {
                (name, number) = address.divided(at: ":")
            }
            return (try decode(name, "host"), try number.flatMap { try port(String($0)) })
        }
        return (pairs.map(\.0), pairs.map(\.1))
    }

    /// Sets the addresses. One port is that of all hosts (PostgreSQL, "Specifying Multiple Hosts").
    private mutating func apply(_ hosts: [String], _ ports: [Int?]) throws {
        guard ports.count == hosts.count || ports.count <= 1 else { throw Self.malformed("list of ports") }
        let all = hosts.indices.map { index in
            Address(
                host: hosts[index].isEmpty ? host : hosts[index],
                port: (ports.count == 1 ? ports[0] : ports.isEmpty ? nil : ports[index]) ?? port)
        }
        guard let first = all.first else { return }
        (host, port, otherAddresses) = (first.host, first.port, Array(all.dropFirst()))
    }

    private static func list(_ value: String) -> [String] {
        value.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }

    /// The port that `text` writes; `nil` for PostgreSQL's own.
    private static func port(_ text: String) throws -> Int? {
        guard !text.isEmpty else { return nil }
        guard let number = UInt16(text), number > 0 else { throw malformed("port") }
        return Int(number)
    }

    private mutating func apply(parameter name: String, _ value: String) throws {
        switch name {
        case "dbname": database = value
        case "user": user = value
        case "password": password = value
        case "sslmode": sslMode = value
        case "sslrootcert": sslRootCertificate = value
        case "application_name": applicationName = value
        case "connect_timeout":
            guard let seconds = UInt16(value) else { throw Self.malformed("connect_timeout") }
            connectTimeout = .seconds(Int(seconds))
        case "target_session_attrs":
            guard let access = Access(rawValue: value) else {
                throw Self.malformed("target_session_attrs (any or read-write is expected)")
            }
            self.access = access
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
    /// The parts before and after the first `separator`; the second is `nil` without one.
    fileprivate func divided(at separator: Character) -> (Substring, Substring?) {
        guard let index = firstIndex(of: separator) else { return (self, nil) }
        return (self[..<index], self[self.index(after: index)...])
    }
}

/// A setting that each of our sessions needs, whatever the defaults of the role, the database or the server are.
///
/// The meaning of our statements depends on these values. `ALTER ROLE … SET` and `ALTER DATABASE … SET` change the
/// defaults of a session, so each connection sets them. Settings that only a superuser may change, such as
/// `session_replication_role`, are not here, because a connection of an ordinary role would be refused. Settings that
/// make a statement slower or refuse it, such as `enable_seqscan` and `default_transaction_read_only`, are left to the
/// operator.
package struct SessionSetting: Sendable, Hashable {
    /// The name of the setting.
    package let name: String
    /// Its value.
    package let value: String

    private init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }

    /// The settings with the same value in all sessions, in a fixed order.
    package static let pinned: [SessionSetting] = [
        // Rows that a policy hides are an error instead of rows that do not exist.
        SessionSetting("row_security", "off"),
        // PostgreSQL acknowledges a COMMIT that survives a crash.
        SessionSetting("synchronous_commit", "on"),
        // Each statement sees what was committed before it. A transaction that must see one state asks for that.
        SessionSetting("default_transaction_isolation", "read committed"),
        SessionSetting("default_transaction_deferrable", "off"),
        // How statements and values are read.
        SessionSetting("array_nulls", "on"), SessionSetting("transform_null_equals", "off"),
        SessionSetting("standard_conforming_strings", "on"), SessionSetting("backslash_quote", "safe_encoding"),
        SessionSetting("xmloption", "content"),
        // How values are written.
        SessionSetting("timezone", "UTC"), SessionSetting("datestyle", "ISO, MDY"),
        SessionSetting("intervalstyle", "postgres"), SessionSetting("bytea_output", "hex"),
        SessionSetting("extra_float_digits", "1"), SessionSetting("quote_all_identifiers", "off"),
        SessionSetting("lc_numeric", "C"), SessionSetting("lc_monetary", "C"), SessionSetting("lc_time", "C"),
        // An error ends only its statement, and an unused connection stays open.
        SessionSetting("exit_on_error", "off"), SessionSetting("idle_session_timeout", "0"),
        SessionSetting("check_function_bodies", "on"), SessionSetting("client_min_messages", "notice"),
        // Statements that end within a second gain nothing: compiling a rollup of 50,000 rows takes as long as
        // the rollup.
        SessionSetting("jit", "off"),
    ]
}
