import Postgres
import Testing

@Suite(.timeLimit(.minutes(30))) struct ConfigurationTests {
    @Test func everyPartOfAURLIsRead() throws {
        let options = "sslmode=verify-full&application_name=x&connect_timeout=3"
        let url = "postgresql://us%40er:p%2Fa%3Ass@db.example:6543/my%20db?\(options)"
        let configuration = try ConnectionConfiguration(url: url)
        #expect(configuration.user == "us@er")
        #expect(configuration.password == "p/a:ss")
        #expect(configuration.host == "db.example")
        #expect(configuration.port == 6543)
        #expect(configuration.database == "my db")
        #expect(configuration.sslMode == "verify-full")
        #expect(configuration.applicationName == "x")
        #expect(configuration.connectTimeout == .seconds(3))
    }

    @Test(arguments: [
        ("postgres://u@localhost/d", "localhost", 5432), ("postgres://u@[::1]:6000/d", "::1", 6000),
        ("postgres://u@/d?host=/run/postgresql&port=6001", "/run/postgresql", 6001),
        ("postgres://u@%2Frun%2Fpostgresql/d", "/run/postgresql", 5432),
    ])
    func addresses(_ url: String, _ host: String, _ port: Int) throws {
        let configuration = try ConnectionConfiguration(url: url)
        #expect(configuration.host == host)
        #expect(configuration.port == port)
        #expect(configuration.database == "d")
    }

    @Test(arguments: [
        ("postgres://u@a:6000,b,[::1]:6002/d", ["a:6000", "b:5432", "::1:6002"]),
        ("postgres://u@a,b/d?port=6001", ["a:6001", "b:6001"]),
        ("postgres://u@/d?host=/run/one,/run/two&port=6001,6002", ["/run/one:6001", "/run/two:6002"]),
    ])
    func severalServersAreRead(_ url: String, _ expected: [String]) throws {
        let configuration = try ConnectionConfiguration(url: url)
        #expect("\(configuration)" == "u@\(expected.joined(separator: ","))/d")
        #expect(configuration.isWriting)
        #expect(
            try !ConnectionConfiguration(url: url + (url.contains("?") ? "&" : "?") + "target_session_attrs=any")
                .isWriting)
    }

    @Test(arguments: [
        "mysql://u:hunter2@h/d", "postgres://u:hunter2@h:99999/d", "postgres://u:hunter2%@h/d",
        "postgres://u:hunter2%zz@h/d",
        "postgres://u:hunter2%00@h/d", "postgres://u:hunter2@h/d?pass=hunter2", "postgres://u:hunter2@a,b,c/d?port=1,2",
        "postgres://u:hunter2@h/d?target_session_attrs=hunter2", "postgres://u:hunter2@[::1/d",
        "postgres://u:hunter2%ff@h/d", "hunter2",
    ])
    func errorsDoNotRepeatThePassword(_ url: String) async throws {
        let error = try await postgresError { _ = try ConnectionConfiguration(url: url) }
        #expect(error.kind == .invalidConfiguration)
        #expect(!"\(error) \(String(reflecting: error))".contains("hunter2"))
    }

    @Test func descriptionHidesThePassword() throws {
        let configuration = try ConnectionConfiguration(url: "postgres://u:hunter2@h/d")
        var dumped = ""
        dump(configuration, to: &dumped)
        #expect(!"\(configuration) \(String(reflecting: configuration)) \(dumped)".contains("hunter2"))
    }

    @Test func sessionSettingsReachTheServer() async throws {
        var configuration = try testConfiguration(named: "settings test")
        configuration.statementTimeout = .milliseconds(1234)
        configuration.lockTimeout = .milliseconds(567)
        configuration.idleInTransactionTimeout = .seconds(7)
        configuration.searchPath = #"pg_catalog, "a\b", public"#
        let row = try await withPool(configuration) { pool in
            try await pool.withConnection { connection in
                try #require(
                    try connection.query(
                        """
                        SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
                            current_setting('idle_in_transaction_session_timeout'), current_setting('search_path'),
                            current_setting('TimeZone'), current_setting('application_name')
                        """
                    ).first)
            }
        }
        let settings = try row.decode(String.self, String.self, String.self, String.self, String.self, String.self)
        #expect(settings == ("1234ms", "567ms", "7s", #"pg_catalog, "a\b", public"#, "UTC", "settings test"))
    }

    @Test func queriesNumberTheirPlaceholders() {
        let filter: Query = "b = \("x") OR c = \(2)"
        let query: Query = "SELECT \(unsafeSQL: "a") FROM t WHERE a = \(1) AND (\(filter)) LIMIT \(3)"
        #expect(query.description == "SELECT a FROM t WHERE a = $1 AND (b = $2 OR c = $3) LIMIT $4")
        var dumped = ""
        dump(query, to: &dumped)
        #expect(!dumped.contains("120"))
    }
}
