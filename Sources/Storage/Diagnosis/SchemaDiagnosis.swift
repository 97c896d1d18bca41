import Domain
import Postgres

/// Whether our schema and Laravel's tables are those this version works with.
enum SchemaDiagnosis {
    static func schema(_ connection: Connection, migrationsPath: String) throws -> [Finding] {
        do {
            let migrator = try Migrator(migrations: Migration.load(from: migrationsPath))
            let pending = try migrator.pendingMigrations(connection).map {
                Finding.failure("schema", "migration \($0.name) is missing", "Run 'codexflow migrate'.")
            }
            return pending.orOK("schema", "at \(Migrator.requiredVersion)")
        } catch let error as MigrationError {
            return [.failure("schema", "the migrations do not fit", error.description)]
        }
    }

    static func installation(_ connection: Connection) throws -> [Finding] {
        do {
            try Installation.require(connection)
            return [.ok("installation", "Laravel's tables are those this installation belongs to")]
        } catch let error as Installation.Mismatch {
            return [.failure("installation", "Laravel's tables are not those we know", error.description)]
        }
    }

    /// This month's and the next one's, and what fell into the default one, where a month's retention cannot reach it.
    static func partitions(_ connection: Connection, now: Timestamp) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT to_char(m.month, 'YYYY-MM'), m.number = 0
            FROM (SELECT g.number, date_trunc('month', \(now) AT TIME ZONE 'UTC') + g.number * interval '1 month'
                  FROM generate_series(0, 1) AS g (number)) AS m (number, month)
            WHERE NOT EXISTS (
                SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'metering.events'::regclass AND c.relname = 'events_' || to_char(m.month, 'YYYY_MM'))
            ORDER BY m.number
            """)
        var findings = try rows.map { row in
            let (month, isPresent) = try row.decode(String.self, Bool.self)
            let message = "the partition of \(month) is missing: its events go to the default one"
            return isPresent
                ? Finding.failure("partitions", message, "Run 'codexflow migrate'.")
                : .warning("partitions", message, "Run 'codexflow migrate' before the month begins.")
        }
        let strays = try connection.query(
            "SELECT count(*) FROM (SELECT FROM metering.events_default LIMIT 1001) d")
        let count = try strays[0].decode(0, as: Int.self)
        if count > 0 {
            findings.append(
                .warning(
                    "partitions", "\(count > 1000 ? "over 1000" : "\(count)") events lie in the default partition",
                    "Run 'codexflow migrate' once a month; months that lie there already stay there."))
        }
        return findings.orOK("partitions", "this month and the next have theirs, and the default one is empty")
    }
}
