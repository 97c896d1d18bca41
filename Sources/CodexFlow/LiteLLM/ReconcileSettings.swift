import Bootstrap
import Domain
import HTTPSupport
import Postgres

/// Where LiteLLM's own database is, and how long events are kept.
struct ReconcileSettings {
    /// `LITELLM_DATABASE_URL`, as LiteLLM has it in its own `DATABASE_URL`.
    let litellm: ConnectionConfiguration?
    /// The schema of LiteLLM's tables there.
    let schema: String
    let retention: Duration
    let errorText: ErrorText

    init(reading settings: SettingsReader) {
        retention = WebhookSettings.retention(settings)
        errorText = WebhookSettings.errorText(settings)
        let name = "LITELLM_DATABASE_URL"
        schema = settings.secret(name).map { Self.schema(ofPrisma: $0.reveal()) } ?? Self.ordinarySchema
        litellm = settings.secret(name).flatMap { url in
            do {
                return try Self.configuration(ofPrisma: url.reveal())
            } catch {
                settings.reject(name, "is not usable: \((error as? PostgresError)?.message ?? "malformed")")
                return nil
            }
        }
    }

    /// What Prisma's URL says (Prisma, "PostgreSQL connector"): `schema`, and parameters of its own pool, which say nothing here.
    private static func configuration(ofPrisma url: String) throws -> ConnectionConfiguration {
        let parts = url.split(separator: "?", maxSplits: 1).map(String.init)
        let parameters = parts.count == 2 ? parts[1].split(separator: "&").map(String.init) : []
        let known = parameters.filter { parameter in !own.contains { parameter.hasPrefix("\($0)=") } }
        let query = known.isEmpty ? "" : "?" + known.joined(separator: "&")
        var configuration = try ConnectionConfiguration(url: (parts.first ?? "") + query)
        configuration.applicationName = "codexflow reconcile"
        configuration.statementTimeout = .seconds(300)
        return configuration
    }

    private static let ordinarySchema = "public"

    private static func schema(ofPrisma url: String) -> String {
        let query = url.split(separator: "?", maxSplits: 1).dropFirst().first ?? ""
        let named = query.split(separator: "&").first { $0.hasPrefix("schema=") }?.dropFirst("schema=".count)
        return named.map(String.init) ?? ordinarySchema
    }

    private static let own = [
        "schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout", "statement_cache_size",
    ]
}
