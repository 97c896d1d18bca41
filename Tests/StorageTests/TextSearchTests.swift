import Domain
import Postgres
import TestSupport
import Testing

@testable import Storage

/// Texts are found in any case, with every collation of the database.
@Suite(.timeLimit(.minutes(30))) struct TextSearchTests {
    private static let texts = [
        "INFO: disk", "info: disk", "İnfo", "ınfo", "Çelik ÖDEME ŞİĞIL", "çelik ödeme şiğıl", "ΣΟΦΟΣ σοφος σοφός",
        "ПРИВЕТ", "a.b*c[d]^e\\f$(g|h){2}?+-", "50% off_now", "Straße", "K\u{212A}", "tab\tnew\nline",
    ]
    private static let questions: [(String, Set<Int>)] = [
        ("info", [0, 1, 2, 3]), ("INFO", [0, 1, 2, 3]), ("İNFO", [0, 1, 2, 3]), ("ınfo", [0, 1, 2, 3]),
        ("ödeme", [4, 5]), ("ÖDEME ŞİĞIL", [4, 5]), ("σοφος", [6]), ("ΣΟΦΟς", [6]), ("привет", [7]),
        ("A.B*C[D]^E\\F$(G|H){2}?+-", [8]), ("a.b", [8]), ("a?b", []), (".", [8]), ("%", [9]), ("_NOW", [9]),
        ("STRAßE", [10]), ("k", [0, 1, 4, 5, 11]), ("b\tn", [12]), ("W\nL", [12]), ("", Set(0..<13)), ("***:x", []),
        ("(?i)info", []), ("\\yinfo", []), (String(repeating: "i", count: 255), []),
    ]

    /// Collations that Laravel's column may have. In the last one, texts that differ in case are equal.
    @Test(arguments: [#""default""#, #""tr-TR-x-icu""#, #""C""#, #""und-x-icu""#, "public.blind"])
    func everyCollationFindsTheSame(collation: String) async throws {
        let (texts, questions) = (Self.texts, Self.questions)
        try await withTestDatabase { database in
            try await database.execute(
                "CREATE COLLATION public.blind (provider = icu, locale = 'tr-u-ks-level2', deterministic = false)")
            try await database.pool.withConnection { connection in
                for (table, column) in [("api_logs", "error_message"), ("users", "name"), ("users", "email")] {
                    try connection.executeScript("ALTER TABLE \(table) ALTER \(column) TYPE text COLLATE \(collation)")
                }
            }
            try await database.execute(
                """
                INSERT INTO users (id, name, email, password)
                SELECT n, t, 'user' || n || '@ıi.example', 'x'
                FROM unnest(\(texts)::text[]) WITH ORDINALITY AS u (t, n)
                """)
            try await database.execute(
                """
                INSERT INTO api_logs (id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                    status,
                                      error_message)
                SELECT id, id, 'm', 1, 1, 1, 1, 'error', name FROM users
                """)
            for (question, expected) in questions {
                let (found, users) = try await database.pool(as: .admin).withConnection { connection in
                    var filter = LogFilter()
                    filter.errorText = question
                    return (
                        try connection.query("SELECT l.id FROM public.api_logs l WHERE \(filter.condition)")
                            .map { try $0.decode(0, as: Int.self) - 1 },
                        try UserDirectory.list(.init(search: question), limit: 100, connection).accounts.map {
                            Int($0.id) - 1
                        }
                    )
                }
                #expect(Set(found) == expected, "\(question) under \(collation)")
                #expect(Set(users).isSuperset(of: expected), "\(question) under \(collation)")
            }
            let byEmail = try await database.pool(as: .admin).withConnection {
                try UserDirectory.list(.init(search: "USER3@II"), limit: 9, $0).accounts.map(\.id)
            }
            #expect(byEmail == [3])
        }
    }

    /// All tables of such a database have its collation, ours included.
    @Test func aTurkishDatabaseIsSearched() async throws {
        let server = try TestServer.configuration()
        try await withTestDatabase(.empty) { database in
            let name = database.name + "_tr"
            try await onServer(
                server,
                """
                CREATE DATABASE \(name) TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'
                LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'
                """)
            let rows = try await withPool(server.database(name)) { pool in
                try await pool.withConnection { connection in
                    let lower = try connection.query("SELECT lower('INFO')")[0].decode(0, as: String.self)
                    var filter = LogFilter()
                    filter.errorText = "info"
                    let found = try connection.query(
                        "SELECT count(*) FROM (VALUES ('INFO'), ('x')) l (error_message) WHERE \(filter.condition)")
                    return (lower, try found[0].decode(0, as: Int.self))
                }
            }
            try await onServer(server, "DROP DATABASE \(name)")
            #expect(rows == ("ınfo", 1))
        }
    }
}
