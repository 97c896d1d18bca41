/// How to reach a PostgreSQL database, and how its sessions behave.
///
/// Behind a transaction-mode pooler switch `preparesStatements` off and have the pooler ignore the start-up parameter
/// `options`, in which the timeouts, the search path and ``SessionSetting`` travel; set those on the role instead, as
/// `codexflow grants` does.
package struct ConnectionConfiguration: Sendable {
    /// A host name, an address, or the directory of a Unix-domain socket (begins with `/`).
    package var host: String
    package var port: Int
    package var database: String
    package var user: String
    package var password: String?
    /// What `pg_stat_activity` calls these sessions.
    package var applicationName: String
    /// libpq's `sslmode`; `nil` leaves its default, `prefer`.
    package var sslMode: String?
    /// The path of a PEM file with the authorities to trust, for `sslMode` `verify-ca` and `verify-full`.
    package var sslRootCertificate: String?
    /// Whole seconds; libpq waits at least 2.
    package var connectTimeout: Duration
    /// After which PostgreSQL cancels a statement; zero is never.
    package var statementTimeout: Duration
    /// After which PostgreSQL gives up waiting for a lock; `nil` waits as long as the statement may run.
    package var lockTimeout: Duration?
    /// After which PostgreSQL ends a session that sits in an open transaction.
    package var idleInTransactionTimeout: Duration
    /// Whether statements are prepared once and kept; off behind a transaction-mode pooler.
    package var preparesStatements: Bool
    /// Whose functions, operators, types and tables a statement finds without naming a schema.
    package var searchPath: String

    /// PostgreSQL's own alone. In a path with another schema, in whichever order, what somebody creates there may fit a
    /// call better than PostgreSQL's own, and runs with our rights; so statements name the schema of each table. The
    /// schema of temporary tables comes first unless it is named.
    package static let pinnedSearchPath = "pg_catalog, pg_temp"

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

    /// libpq's connection parameters (PostgreSQL, "Parameter Key Words").
    var parameters: [(keyword: String, value: String)] {
        let always = [
            ("host", host), ("port", String(port)), ("dbname", database), ("user", user),
            ("application_name", applicationName), ("client_encoding", "UTF8"),
            ("connect_timeout", String(connectTimeout.milliseconds.dividedRoundingUp(by: 1000))), ("options", options),
            // A peer that vanished without a word is noticed within these: 30 s idle and three probes, or 30 s unanswered.
            ("keepalives", "1"), ("keepalives_idle", "30"), ("keepalives_interval", "10"), ("keepalives_count", "3"),
            ("tcp_user_timeout", "30000"),
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
    /// Where it leads and as whom; never the password.
    package var description: String { "\(user)@\(host):\(port)/\(database)" }

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
    /// Whole milliseconds, a part of one counted as one: a limit never becomes zero, which would be no limit.
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
