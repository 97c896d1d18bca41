import Logging
import Postgres
import Testing

@Suite(.timeLimit(.minutes(30))) struct ConnectionTests {
    private struct Refusal: Error {}

    @Test func aHundredThousandRowsOneByOne() async throws {
        let (count, sum) = try await withPool { pool in
            try await pool.withConnection { connection in
                var count = 0
                var sum = 0
                try connection.forEachRow("SELECT n, 'row ' || n FROM generate_series(1, 100000) n") { row in
                    let (number, _) = try row.decode(Int.self, String.self)
                    count += 1
                    sum += number
                }
                return (count, sum)
            }
        }
        #expect(count == 100_000)
        #expect(sum == 5_000_050_000)
    }

    @Test func aStreamThatIsGivenUpLeavesTheConnectionUsable() async throws {
        try await withPool(connections: 1) { pool in
            let (before, after) = try await pool.withConnection { connection in
                let before = connection.backendProcessID
                #expect(throws: Refusal.self) {
                    try connection.forEachRow("SELECT * FROM generate_series(1, 10000)") { row in
                        if try row.decode(0) == 10 {
                            throw Refusal()
                        }
                    }
                }
                return (before, try connection.query("SELECT pg_backend_pid()").first?.decode(0, as: Int32.self))
            }
            #expect(before == after)
        }
    }

    @Test func aStreamThatFailsOnTheWayThrowsAndLeavesTheConnectionUsable() async throws {
        try await withPool(connections: 1) { pool in
            try await pool.withConnection { connection in
                var rows = 0
                let error = #expect(throws: PostgresError.self) {
                    try connection.forEachRow("SELECT 1 / (1000 - n) FROM generate_series(1, 2000) n") { _ in
                        rows += 1
                    }
                }
                #expect(error?.sqlState == "22012")
                #expect(rows == 999)
                let selected = try connection.execute("SELECT 1")
                #expect(selected == 1)
            }
        }
    }

    @Test func aStatementInsideAStreamIsRefused() async throws {
        try await withPool(connections: 1) { pool in
            try await pool.withConnection { connection in
                let error = #expect(throws: PostgresError.self) {
                    try connection.forEachRow("SELECT 1") { _ in _ = try connection.query("SELECT 2") }
                }
                #expect(error?.kind == .misuse)
                let selected = try connection.execute("SELECT 1")
                #expect(selected == 1)
            }
        }
    }

    @Test func rowsAreCopiedInAndOut() async throws {
        try await withPool { pool in
            try await withTable("id bigint, name text, data bytea", in: pool) { table in
                let names = TypeTests.texts
                let copied = try await pool.withConnection { connection in
                    try connection.copyIn("COPY \(table) FROM STDIN") { writer in
                        for (index, name) in names.enumerated() {
                            try writer.writeRow(Int64(index), index == 0 ? nil : name, Array(name.utf8.prefix(20)))
                        }
                    }
                }
                #expect(copied == names.count)
                let rows = try await pool.withConnection { try $0.query("SELECT name, data FROM \(table) ORDER BY id") }
                let stored = try rows.map { try $0.decode(0, as: String?.self) }
                #expect(stored == names.enumerated().map { $0.offset == 0 ? nil : $0.element })
                #expect(try rows.map { try $0.decode(1, as: [UInt8].self) } == names.map { Array($0.utf8.prefix(20)) })
                let lines = try await pool.withConnection { connection in
                    var lines: [String] = []
                    try connection.copyOut("COPY (SELECT id FROM \(table) ORDER BY id) TO STDOUT") { bytes in
                        lines.append(String(decoding: bytes, as: UTF8.self))
                    }
                    return lines
                }
                #expect(lines == names.indices.map { "\($0)\n" })
            }
        }
    }

    @Test func anAbortedCopyStoresNothing() async throws {
        try await withPool(connections: 1) { pool in
            try await withTable("id bigint", in: pool) { table in
                try await pool.withConnection { connection in
                    #expect(throws: Refusal.self) {
                        try connection.copyIn("COPY \(table) FROM STDIN") { writer in
                            try writer.write("1\n".utf8)
                            throw Refusal()
                        }
                    }
                    let error = #expect(throws: PostgresError.self) {
                        try connection.copyIn("COPY \(table) FROM STDIN") { try $0.write("one\n".utf8) }
                    }
                    #expect(error?.sqlState == "22P02")
                    #expect(throws: Refusal.self) {
                        try connection.copyOut("COPY (SELECT generate_series(1, 1000)) TO STDOUT") { _ in
                            throw Refusal()
                        }
                    }
                    let stored = try connection.query("SELECT FROM \(table)").count
                    #expect(stored == 0)
                }
            }
        }
    }

    @Test func aCopyThroughTheWrongCallIsRefused() async throws {
        try await withPool(connections: 1) { pool in
            for sql: Query in ["COPY (SELECT 1) TO STDOUT", "COPY pg_class FROM STDIN"] {
                let query = try await postgresError { try await pool.withConnection { _ = try $0.query(sql) } }
                #expect(query.kind == .misuse)
                let stream = try await postgresError {
                    try await pool.withConnection { try $0.forEachRow(sql) { _ in } }
                }
                #expect(stream.kind == .misuse)
            }
            let copy = try await postgresError {
                try await pool.withConnection { _ = try $0.copyIn("SELECT 1") { _ in } }
            }
            #expect(copy.kind == .misuse)
            #expect(try await pool.withConnection { try $0.execute("SELECT 1") } == 1)
        }
    }

    @Test func noticesGoToTheLogAtDebug() async throws {
        let log = RecordingLog()
        let logger = Logger(label: "notices") { _ in log.handler }
        try await withPool(logger: logger) { pool in
            try await pool.withConnection { try $0.executeScript("DO $$ BEGIN RAISE NOTICE 'hello'; END $$") }
        }
        #expect(log.lines.contains { $0.hasPrefix("debug ") && $0.contains("hello") })
    }

    @Test func anErrorNamesTheConstraintAndHidesTheValues() async throws {
        try await withPool { pool in
            try await withTable("id bigint PRIMARY KEY, name text CHECK (name <> 'forbidden-value')", in: pool) {
                table in
                try await pool.withConnection { _ = try $0.execute("INSERT INTO \(table) VALUES (424242, 'x')") }
                let duplicate = try await postgresError {
                    try await pool.withConnection {
                        _ = try $0.execute("INSERT INTO \(table) VALUES (\(424_242), \("y"))")
                    }
                }
                #expect(duplicate.kind == .server)
                #expect(duplicate.sqlState == "23505")
                #expect(duplicate.table == table.description)
                #expect(duplicate.constraint == "\(table)_pkey")
                #expect(duplicate.query == "INSERT INTO \(table) VALUES ($1, $2)")
                let reflected = String(reflecting: duplicate)
                for part in ["23505", "_pkey", "VALUES ($1, $2)"] {
                    #expect(reflected.contains(part))
                }
                let unreadable = try await postgresError {
                    try await pool.withConnection { _ = try $0.query("SELECT \("forbidden-value")::text::int") }
                }
                var dumped = ""
                dump([duplicate, unreadable], to: &dumped)
                for text in ["\(duplicate)", reflected, "\(unreadable)", String(reflecting: unreadable), dumped] {
                    #expect(!text.contains("424242") && !text.contains("forbidden-value"))
                }
            }
        }
    }

    @Test func aScriptOfSeveralStatementsIsOneTransaction() async throws {
        try await withPool { pool in
            try await withTable("id bigint PRIMARY KEY", in: pool) { table in
                let script = "INSERT INTO \(table) VALUES (1); INSERT INTO \(table) VALUES (1)"
                let error = try await postgresError { try await pool.withConnection { try $0.executeScript(script) } }
                #expect(error.sqlState == "23505")
                let count = try await pool.withConnection { try $0.query("SELECT FROM \(table)").count }
                #expect(count == 0)
            }
        }
    }

    @Test(arguments: [true, false])
    func statementsArePreparedOnlyIfWanted(_ prepares: Bool) async throws {
        var configuration = try testConfiguration()
        configuration.preparesStatements = prepares
        let (names, count) = try await withPool(configuration) { pool in
            try await pool.withConnection { connection in
                for number in 0..<300 {
                    _ = try connection.query("SELECT \(number)::int8 AS \(unsafeSQL: "c\(number % 150)")")
                }
                try connection.forEachRow("SELECT \(1)::int4") { _ in }
                let rows = try connection.query("SELECT name FROM pg_prepared_statements")
                return (try rows.map { try $0.decode(0, as: String.self) }, rows.count)
            }
        }
        #expect(Set(names).count == count)
        #expect(count == (prepares ? 100 : 0))
    }

    @Test func aStatementThatNoLongerFitsItsTableIsPreparedAgain() async throws {
        try await withPool(connections: 1) { pool in
            try await withTable("id bigint", in: pool) { table in
                try await pool.withConnection { connection in
                    #expect(try connection.query("SELECT * FROM \(table)").isEmpty)
                    try connection.execute("ALTER TABLE \(table) ADD COLUMN name text")
                    #expect(try connection.query("SELECT * FROM \(table)").isEmpty)
                }
                let attempts = Counter()
                try await pool.withConnection { _ = try $0.execute("ALTER TABLE \(table) ADD COLUMN more text") }
                try await pool.transaction { connection in
                    attempts.increment()
                    _ = try connection.query("SELECT * FROM \(table)")
                }
                #expect(attempts.count == 2)
                try await pool.withConnection { connection in
                    try connection.executeScript("DEALLOCATE ALL")
                    #expect(try connection.query("SELECT * FROM \(table)").isEmpty)
                }
            }
        }
    }
}
