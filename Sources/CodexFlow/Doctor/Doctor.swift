import Bootstrap
import Domain
import HTTPSupport
import Logging
import Postgres
import Storage

/// Checks everything that an installation needs. A check that fails hides no other.
struct Doctor: Sendable {
    /// One check, which changes nothing.
    struct Check: Sendable {
        let name: String
        let run: @Sendable () async throws -> [Finding]
    }

    /// How long a check may take.
    static let deadline = Duration.seconds(10)

    let settings: DoctorSettings
    let now: @Sendable () -> Timestamp
    /// A browser's cookie to check too.
    var cookie: (text: Secret, sessions: LaravelSessions?)?

    /// Runs all checks and returns what they find, in a fixed order.
    func examine() async -> [Finding] {
        let pool = ConnectionPool(
            settings.database, limits: PoolLimits(maxConnections: 4),
            logger: Logger(label: "codexflow", factory: { _ in SwiftLogNoOpLogHandler() }))
        let (settings, http) = (settings, HTTPChecks(now: now))
        async let database = examineDatabase(pool)
        async let others = Self.run([
            Check(name: "key strength") { ConfigurationCheck.keyStrength(settings) },
            Check(name: "proxy") { try await http.proxy(settings.proxy) },
            Check(name: "webhook-api") { try await http.webhook(settings.webhook.server) },
        ])
        let findings = await database + others + followCookie()
        await pool.close()
        return findings
    }

    private func followCookie() async -> [Finding] {
        guard let cookie else { return [] }
        let pool = ConnectionPool(
            settings.adminDatabase, limits: PoolLimits(maxConnections: 1),
            logger: Logger(label: "codexflow", factory: { _ in SwiftLogNoOpLogHandler() }))
        let check = CookieCheck(text: cookie.text, sessions: cookie.sessions, database: pool, now: now())
        let findings = await Self.run([Check(name: "cookie") { try await check.findings() }])
        await pool.close()
        return findings
    }

    /// Reports a database that cannot be reached once, not by each check.
    private func examineDatabase(_ pool: ConnectionPool) async -> [Finding] {
        let probe = Check(name: "database") {
            try await pool.withConnection { _ in [] }
        }
        let unreachable = await Self.run([probe])
        guard unreachable.isEmpty else { return unreachable }
        let context = DatabaseCheck.Context(
            now: now, rolePrefix: settings.context.rolePrefix, migrationsPath: settings.context.migrationsPath,
            silence: settings.silence)
        return await Self.run(
            DatabaseCheck.all.map { check in
                Check(name: check.name) { try await pool.withConnection { try check.run($0, context) } }
            })
    }

    /// Runs `checks` at the same time. The findings of one that fails or takes too long say so.
    static func run(_ checks: [Check], deadline: Duration = deadline) async -> [Finding] {
        await withTaskGroup(of: (Int, [Finding]).self) { group in
            for (index, check) in checks.enumerated() {
                group.addTask { (index, await outcome(of: check, deadline)) }
            }
            return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }.sorted { $0.key < $1.key }.flatMap(\.value)
        }
    }

    private static func outcome(of check: Check, _ deadline: Duration) async -> [Finding] {
        do {
            return try await withDeadline(deadline, check.run)
                ?? [
                    .failure(
                        check.name, "gave no answer within \(deadline.components.seconds) s",
                        "See the other findings, then run the doctor again.")
                ]
        } catch let error as PostgresError {
            return [failure(of: check, error)]
        } catch {
            return [.failure(check.name, "cannot be judged: \(type(of: error))", "Run the doctor again.")]
        }
    }

    /// The driver's message about a connection holds no parameter. The server's message about a statement may hold one,
    /// so it is not shown.
    private static func failure(of check: Check, _ error: PostgresError) -> Finding {
        switch (error.kind, error.sqlState) {
        case (.connectFailed, _):
            let reason = error.message.prefix { $0 != ";" && !$0.isNewline }
            return .failure(
                check.name, "cannot be reached: \(reason)",
                "Start PostgreSQL, or correct DB_HOST, DB_PORT and the credentials. Checks that need it did not run."
            )
        case _ where error.isRowSecurity:
            return .failure(
                check.name, "cannot be judged: row-level security hides rows from the role",
                "See the laravel findings, and discard no event for what they name.")
        case (_, "42501"):
            return .failure(
                check.name, "cannot be judged: the role lacks a right",
                "Run the output of 'codexflow grants' with psql.")
        case (_, "42P01"), (_, "3F000"):
            return .failure(check.name, "cannot be judged: a table is missing", "Run 'codexflow migrate'.")
        default:
            return .failure(
                check.name, "cannot be judged: \(error)\(error.sqlState.map { " (SQLSTATE \($0))" } ?? "")",
                "See the other findings, then run the doctor again.")
        }
    }
}
