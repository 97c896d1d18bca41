internal import Crypto
internal import Domain
internal import Foundation
package import Postgres
package import Storage

/// The PostgreSQL server that `make test` starts and names in `TEST_DATABASE_URL`.
package enum TestServer {
    /// There is no server whose databases tests may delete.
    package enum Refusal: Error, CustomStringConvertible {
        case missing
        case foreign(host: String)

        package var description: String {
            switch self {
            case .missing: "TEST_DATABASE_URL is not set: run the tests by 'make test', which starts a server"
            case .foreign(let host): "TEST_DATABASE_URL names '\(host)': tests use a server of this machine only"
            }
        }
    }

    /// Its maintenance database.
    ///
    /// - Throws: ``Refusal`` when there is none or it is on another machine; what a malformed URL throws.
    package static func configuration() throws -> ConnectionConfiguration {
        guard let url = ProcessInfo.processInfo.environment["TEST_DATABASE_URL"], !url.isEmpty else {
            throw Refusal.missing
        }
        return try configuration(url: url)
    }

    /// Where `url` leads, which must be this machine.

    ///

    /// - Throws: as ``configuration()``.
    package static func configuration(url: String) throws -> ConnectionConfiguration {
        var configuration = try ConnectionConfiguration(url: url)
        // Tests use `users` for Laravel's table. The programs name the schema, and their roles have no search path.
        configuration.searchPath = "public"
        let loopback: Set = ["127.0.0.1", "::1", "localhost"]
        guard loopback.contains(configuration.host) || configuration.host.hasPrefix("/") else {
            throw Refusal.foreign(host: configuration.host)
        }
        return configuration
    }
}

extension ConnectionConfiguration {
    /// The `DATABASE_URL` of this configuration.
    package var url: String {
        var allowed = CharacterSet.alphanumerics
        allowed.insert(charactersIn: "-._~")
        let encode = { (text: String) in text.addingPercentEncoding(withAllowedCharacters: allowed) ?? "" }
        let credentials = encode(user) + (password.map { ":" + encode($0) } ?? "")
        let addresses = [Address(host: host, port: port)] + otherAddresses
        let hosts = addresses.map { encode($0.host) }.joined(separator: ",")
        let ports = addresses.map { String($0.port) }.joined(separator: ",")
        return "postgresql://\(credentials)@/\(encode(database))?host=\(hosts)&port=\(ports)"
    }

    /// The database `name` of the same server.
    package func database(_ name: String) -> ConnectionConfiguration {
        var other = self
        other.database = name
        return other
    }
}

/// The roles of the programs on the test server. The code under test has the role of its program; the test is
/// superuser.
package enum TestRoles {
    package static let prefix = "codexflow"

    /// Makes the roles with passwords and with their rights on `database`, which is migrated.

    ///

    /// - Throws: `PostgresError`.
    package static func grant(on database: ConnectionConfiguration) async throws {
        try await withPool(database) { pool in
            try await pool.withConnection { connection in
                try connection.executeScript(GrantScript(prefix: prefix).text(database: database.database))
                for role in DatabaseRole.allCases {
                    let configuration = database.role(role)
                    try connection.executeScript(
                        "ALTER ROLE \(configuration.user) PASSWORD '\(configuration.password ?? "")'")
                }
            }
        }
    }
}

extension ConnectionConfiguration {
    /// The same database as `role`. The password is derived from the superuser's, so every process of a test run knows
    /// it.
    package func role(_ role: DatabaseRole) -> ConnectionConfiguration {
        var other = self
        other.searchPath = ConnectionConfiguration.pinnedSearchPath
        other.user = role.name(prefix: TestRoles.prefix)
        other.password = SHA256.hash(data: Data("\(role.rawValue) \(password ?? "")".utf8)).lowercaseHex
        return other
    }
}

extension TestDatabase {
    /// Settings that `ALTER ROLE` or `ALTER DATABASE` can set, with values that change the meaning of statements, the
    /// form of values, or the plan.
    package static let badSettings = [
        "array_nulls = off", "transform_null_equals = on", "standard_conforming_strings = off", "backslash_quote = on",
        "row_security = on", "timezone = 'Asia/Kathmandu'", "datestyle = 'SQL, DMY'", "intervalstyle = iso_8601",
        "bytea_output = escape", "extra_float_digits = -15", "quote_all_identifiers = on",
        "default_transaction_isolation = serializable", "default_transaction_deferrable = on",
        "synchronous_commit = off",
        "exit_on_error = on", "xmloption = document", "client_min_messages = debug5", "client_encoding = latin1",
        "lock_timeout = 1", "statement_timeout = 1", "idle_session_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "search_path = public", "check_function_bodies = off", "enable_indexscan = off", "enable_hashjoin = off",
        "enable_seqscan = off", "enable_partition_pruning = off", "enable_sort = off", "force_parallel_mode = on",
        "plan_cache_mode = force_generic_plan", "from_collapse_limit = 1", "join_collapse_limit = 1", "work_mem = 64",
        "cursor_tuple_fraction = 1", "default_statistics_target = 1", "gin_fuzzy_search_limit = 1",
    ]

    /// Gives the bad settings to the role of a program, or to every session of this database. Other databases keep
    /// theirs.
    ///
    /// - Throws: ``PostgresError``.
    package func setBadly(_ role: DatabaseRole?) async throws {
        let whose = role.map { "ROLE \($0.name(prefix: TestRoles.prefix)) IN DATABASE \(name)" } ?? "DATABASE \(name)"
        let script = Self.badSettings.map { "ALTER \(whose) SET \($0);" }.joined(separator: "\n")
        try await pool.withConnection { try $0.executeScript(script) }
    }
}

/// A temporary PostgreSQL cluster, for tests that stop or kill the server.
package struct PostgresCluster: Sendable {
    /// The modes of `pg_ctl stop`.
    package enum StopMode: String, Sendable {
        /// Ends sessions, then writes everything.
        case fast
        /// Stops as in a crash. The next start recovers from the log.
        case immediate
    }

    private static let script = Checkout.root.appending(path: "scripts/postgres").path()

    private let directory: String
    /// Its database `postgres`. The port stays the same while the server is stopped.
    package let configuration: ConnectionConfiguration

    /// Makes and starts a cluster in a temporary folder.

    ///

    /// - Throws: `Command.Failure` when `scripts/postgres` fails.
    package static func make() async throws -> PostgresCluster {
        try await make { ["start", $0, "0"] }
    }

    private static func make(_ arguments: (_ directory: String) -> [String]) async throws -> PostgresCluster {
        // The path of the socket must be short. `make test` removes what a killed run leaves in this folder.
        let folder = ProcessInfo.processInfo.environment["TEST_CLUSTERS"] ?? "/tmp"
        let directory = "\(folder)/codexflow-\(UUID().uuidString.prefix(8).lowercased())"
        do {
            try await Command.run(script, arguments(directory))
            let url = try await Command.run(script, ["url", directory, "postgres"])
            return PostgresCluster(directory: directory, configuration: try ConnectionConfiguration(url: url))
        } catch {
            _ = try? await Command.run(script, ["remove", directory])
            throw error
        }
    }

    /// Makes and starts a streaming standby of this cluster in a temporary folder.
    ///
    /// - Throws: `Command.Failure` when `scripts/postgres` fails.
    package func makeStandby() async throws -> PostgresCluster {
        try await Self.make { ["standby", $0, "0", directory] }
    }

    /// Deletes this cluster, and makes it a streaming standby of `primary`, on the same port.
    ///
    /// - Throws: `Command.Failure` when `scripts/postgres` fails.
    package func follow(_ primary: PostgresCluster) async throws {
        try await remove()
        try await Command.run(Self.script, ["standby", directory, String(configuration.port), primary.directory])
    }

    /// Makes this standby a primary.
    ///
    /// - Throws: `Command.Failure` when `scripts/postgres` fails.
    package func promote() async throws {
        try await Command.run(Self.script, ["promote", directory])
    }

    /// Starts the server again, on the same port.

    ///

    /// - Throws: `Command.Failure` when `scripts/postgres` fails.
    package func start() async throws {
        try await Command.run(Self.script, ["start", directory, String(configuration.port)])
    }

    /// Stops the server.

    ///

    /// - Throws: `Command.Failure` when `scripts/postgres` fails.
    package func stop(_ mode: StopMode) async throws {
        try await Command.run(Self.script, ["stop", directory, mode.rawValue])
    }

    /// Stops the server and deletes its files.

    ///

    /// - Throws: `Command.Failure` when `scripts/postgres` fails.
    package func remove() async throws {
        try await Command.run(Self.script, ["remove", directory])
    }
}

extension PostgresCluster {
    /// Where its server listens.
    package var address: ConnectionConfiguration.Address {
        ConnectionConfiguration.Address(host: configuration.host, port: configuration.port)
    }

    /// Runs `body` with a streaming standby. Each COMMIT waits until a standby has it.
    ///
    /// - Throws: `Command.Failure` when there can be none; what `body` throws.
    package func withSynchronousStandby<Result>(
        isolation: isolated (any Actor)? = #isolation, _ body: (_ standby: PostgresCluster) async throws -> Result
    ) async throws -> Result {
        let standby = try await makeStandby()
        do {
            try await set("synchronous_standby_names = '*'")
            let result = try await body(standby)
            try await standby.remove()
            return result
        } catch {
            _ = try? await standby.remove()
            throw error
        }
    }

    /// Changes a setting of the server, such as `work_mem = '1MB'`.
    ///
    /// - Throws: `PostgresError`.
    package func set(_ setting: String) async throws {
        try await withPool(configuration) { pool in
            try await pool.withConnection { connection in
                try connection.execute("ALTER SYSTEM SET \(unsafeSQL: setting)")
                try connection.execute("SELECT pg_reload_conf()")
            }
        }
    }
}

/// Runs `body` with a cluster of its own.
///
/// - Throws: `Command.Failure` when the cluster cannot be made; what `body` throws.
package func withPostgresCluster<Result>(
    isolation: isolated (any Actor)? = #isolation, _ body: (PostgresCluster) async throws -> Result
) async throws -> Result {
    let cluster = try await PostgresCluster.make()
    let result: Result
    do {
        result = try await body(cluster)
    } catch {
        // The failure of the test says more than one of the clean-up.
        _ = try? await cluster.remove()
        throw error
    }
    try await cluster.remove()
    return result
}
