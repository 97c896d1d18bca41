import Bootstrap
import Postgres
import Testing

@Suite(.timeLimit(.minutes(30))) struct DatabaseSettingsTests {
    private func settings(_ environment: [String: String]) throws -> DatabaseSettings {
        try SettingsReader(environment: environment).read {
            DatabaseSettings(reading: $0, applicationName: "test", ownURL: "TEST_DATABASE_URL")
        }
    }

    @Test func withoutVariablesTheDatabaseIsLaravelsDefault() throws {
        let settings = try settings([:])
        #expect("\(settings.connection)" == "root@127.0.0.1:5432/laravel")
        #expect(settings.connection.password == nil)
        #expect(settings.connection.applicationName == "test")
        #expect(settings.connection.sslMode == "prefer")
        #expect(settings.connection.preparesStatements)
        #expect(settings.limits.maxConnections == 6)
    }

    @Test func laravelsVariablesNameTheDatabase() throws {
        let settings = try settings([
            "DB_HOST": "db", "DB_PORT": "5433", "DB_DATABASE": "codexflow", "DB_USERNAME": "app", "DB_PASSWORD": "p ss",
            "DB_SSLMODE": "verify-full", "DB_SSLROOTCERT": "/ca.pem", "DB_PREPARED_STATEMENTS": "false",
            "DB_MAX_CONNECTIONS": "3",
        ])
        #expect("\(settings.connection)" == "app@db:5433/codexflow")
        #expect(settings.connection.password == "p ss")
        #expect(settings.connection.sslMode == "verify-full")
        #expect(settings.connection.sslRootCertificate == "/ca.pem")
        #expect(!settings.connection.preparesStatements)
        #expect(settings.limits.maxConnections == 3)
    }

    @Test func theProgramsOwnURLWinsThenDatabaseURLThenDBURL() throws {
        let laravel = ["DB_HOST": "other", "DB_URL": "postgresql://app:x@one/codexflow"]
        #expect(try "\(settings(laravel).connection)" == "app@one:5432/codexflow")
        let both = laravel.merging(["DATABASE_URL": "postgres://app:x@two:1/codexflow?sslmode=require"]) { $1 }
        #expect(try "\(settings(both).connection)" == "app@two:1/codexflow")
        #expect(try settings(both).connection.sslMode == "require")
        #expect(try "\(settings(both).migration)" == "app@two:1/codexflow")
        let owner = both.merging(["MIGRATE_DATABASE_URL": "postgres://owner:x@two:1/codexflow"]) { $1 }
        #expect(try "\(settings(owner).migration)" == "owner@two:1/codexflow")
        let own = owner.merging(["TEST_DATABASE_URL": "postgres://tester:x@two:1/codexflow"]) { $1 }
        #expect(try "\(settings(own).connection)" == "tester@two:1/codexflow")
        #expect(try "\(settings(own).migration)" == "owner@two:1/codexflow")
    }

    @Test(arguments: ["mysql://app:s3cret@db/x", "postgres://app:s3cret@db:port/x", "s3cret"])
    func aMalformedURLIsAProblemThatDoesNotShowIt(url: String) {
        let error = #expect(throws: ConfigurationError.self) { try settings(["DATABASE_URL": url]) }
        #expect(error?.problems.count == 1)
        #expect(error?.description.contains("s3cret") == false)
    }
}
