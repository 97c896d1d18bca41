import Postgres
import Storage
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct SchemaCheckTests {
    private func findings(after change: Query) async throws -> [String] {
        try await withTestDatabase { database in
            try await database.pool.withConnection { connection in
                try connection.execute(change)
                return try SchemaCheck.findings(connection).map(\.description)
            }
        }
    }

    @Test func laravelsSchemaIsFine() async throws {
        #expect(try await findings(after: "SELECT 1").isEmpty)
    }

    @Test(arguments: [
        ("ALTER TABLE api_logs DROP COLUMN error_message", "api_logs.error_message is missing"),
        ("DROP TABLE rate_limits", "rate_limits.id is missing"),
        (
            "ALTER TABLE api_logs ALTER model TYPE varchar(100)",
            "api_logs.model is character varying(100), narrower than character varying(255)"
        ),
        (
            "ALTER TABLE api_logs ALTER total_cost TYPE numeric(8,4)",
            "api_logs.total_cost is numeric(8,4), narrower than numeric(10,6)"
        ),
        (
            "ALTER TABLE api_logs ALTER input_tokens TYPE smallint",
            "api_logs.input_tokens is smallint, needed is integer"
        ),
        (
            "ALTER TABLE api_logs ADD region text NOT NULL",
            "api_logs.region is new, NOT NULL and has no default: events wait in quarantine until it has one"
        ),
    ])
    func aDifferenceIsReported(change: String, finding: String) async throws {
        #expect(try await findings(after: Query(unsafeSQL: change)).contains(finding))
    }

    @Test(arguments: [
        "ALTER TABLE api_logs ADD region text NOT NULL DEFAULT 'eu'", "ALTER TABLE api_logs ADD region text",
        "ALTER TABLE api_logs ALTER input_tokens TYPE bigint", "ALTER TABLE api_logs ALTER model TYPE text",
        "ALTER TABLE api_logs ALTER total_cost TYPE numeric(20,12)", "ALTER TABLE users ADD phone text NOT NULL",
    ])
    func aHarmlessDifferenceIsNoFinding(change: String) async throws {
        #expect(try await findings(after: Query(unsafeSQL: change)).isEmpty)
    }
}
