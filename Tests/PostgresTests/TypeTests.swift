import Postgres
import Testing

@Suite(.timeLimit(.minutes(30))) struct TypeTests {
    private func roundTrip<T: PostgresEncodable & PostgresDecodable & Equatable>(
        _ value: T, _ type: String
    ) async throws {
        let read = try await withPool(connections: 1) { pool in
            try await pool.withConnection { connection in
                try connection.query("SELECT \(value)::\(unsafeSQL: type)").first?.decode(0, as: T.self)
            }
        }
        #expect(read == value)
    }

    @Test(arguments: [Int64.min, -1, 0, 1, 10, 9_007_199_254_740_993, .max])
    func int64(_ value: Int64) async throws {
        try await roundTrip(value, "int8")
    }

    @Test(arguments: ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "", "-", "1x", "1.0"])
    func noInt64(_ text: String) {
        #expect(Int64(text: ArraySlice(text.utf8)) == nil)
    }

    @Test(arguments: [Int32.min, 0, .max])
    func int32(_ value: Int32) async throws {
        try await roundTrip(value, "int4")
    }

    @Test(arguments: [
        0, -0.0, 0.1, -1.5, .pi, .leastNonzeroMagnitude, .leastNormalMagnitude, .greatestFiniteMagnitude, .infinity,
        -.infinity,
    ])
    func double(_ value: Double) async throws {
        try await roundTrip(value, "float8")
    }

    @Test func notANumberIsRead() async throws {
        let read = try await withPool { pool in
            try await pool.withConnection {
                try $0.query("SELECT \(Double.nan)::float8").first?.decode(0, as: Double.self)
            }
        }
        #expect(read?.isNaN == true)
    }

    @Test(arguments: [true, false])
    func bool(_ value: Bool) async throws {
        try await roundTrip(value, "bool")
    }

    static let texts = [
        "", " ", "NULL", "null", "{}", "a,b", "\"", "\\", "\\\"", "it's", "line\nbreak\ttab\r", "ü€😀", "e\u{301}",
        "\u{1}\u{7f}", "\\x00", String(repeating: "a\"\\", count: 20),
    ]

    @Test(arguments: texts)
    func text(_ value: String) async throws {
        try await roundTrip(value, "text")
    }

    @Test func canonicallyEquivalentTextsStayDifferent() async throws {
        let isSame = try await withPool { pool in
            try await pool.withConnection { connection in
                try connection.query("SELECT \("e\u{301}")::text = \("é")::text").first?.decode(0, as: Bool.self)
            }
        }
        #expect(isSame == false)
    }

    @Test(arguments: [[], [0], Array(0...255)] as [[UInt8]])
    func bytes(_ value: [UInt8]) async throws {
        try await roundTrip(value, "bytea")
    }

    @Test func nullsAreReadAndWritten() async throws {
        try await roundTrip(String?.none, "text")
        try await roundTrip(Int64?.none, "int8")
        try await roundTrip([UInt8]?.none, "bytea")
        try await roundTrip([Int64]?.none, "int8[]")
        try await roundTrip(String?.some("NULL"), "text")
    }

    @Test func arraysAreReadAndWritten() async throws {
        try await roundTrip([Int64.min, 0, .max], "int8[]")
        try await roundTrip([Int32.min, 0, .max], "int4[]")
        try await roundTrip([Int64](), "int8[]")
        try await roundTrip([Int64?.none, 7, nil], "int8[]")
        try await roundTrip([0.1, .infinity, -Double.leastNonzeroMagnitude], "float8[]")
        try await roundTrip([true, false], "bool[]")
        try await roundTrip(Self.texts, "text[]")
        try await roundTrip([String?.some("NULL"), nil, "", "\\"], "text[]")
        try await roundTrip([[], [0, 255], Array("\\\"".utf8)] as [[UInt8]], "bytea[]")
        try await roundTrip([[UInt8]?.none, [1]], "bytea[]")
    }

    @Test func rowsUnnestInOrder() async throws {
        let count = 1000
        let numbers = (0..<count).map { Int64($0) }
        let names = numbers.map { $0.isMultiple(of: 3) ? nil : "n\"\($0)\\" }
        let rows = try await withPool { pool in
            try await pool.withConnection {
                try $0.query("SELECT * FROM unnest(\(numbers)::bigint[], \(names)::text[]) ORDER BY 1")
            }
        }
        #expect(try rows.map { try $0.decode(0, as: Int64.self) } == numbers)
        #expect(try rows.map { try $0.decode(1, as: String?.self) } == names)
    }

    @Test func textWithNULIsRefusedBeforeTheCall() async throws {
        try await withPool { pool in
            try await withTable("id bigint, name text", in: pool) { table in
                for query: Query in [
                    "INSERT INTO \(table) VALUES (1, \("a\0b"))",
                    "INSERT INTO \(table) SELECT 1, unnest(\(["", "\0"])::text[])",
                    "INSERT INTO \(table) VALUES (1, 'a\0b')",
                ] {
                    let error = try await postgresError { try await pool.withConnection { _ = try $0.execute(query) } }
                    #expect(error.kind == .invalidParameter)
                }
                let count = try await pool.withConnection {
                    try $0.query("SELECT count(*) FROM \(table)").first?.decode(0, as: Int.self)
                }
                #expect(count == 0)
            }
        }
    }

    @Test func severalColumnsByPositionAndName() async throws {
        let row = try await withPool { pool in
            try await pool.withConnection {
                try #require(try $0.query("SELECT 7::int8 AS id, 'x'::text AS name, NULL::bool AS flag").first)
            }
        }
        let (id, name, flag) = try row.decode(Int64.self, String.self, Bool?.self)
        #expect(id == 7)
        #expect(name == "x")
        #expect(flag == nil)
        #expect(try row.decode("name") as String == "x")
    }

    @Test func aMissingColumnOrNullIsADecodingError() async throws {
        let row = try await withPool { pool in
            try await pool.withConnection {
                try #require(
                    try $0.query("SELECT 'secret'::text AS name, NULL::int8, '{{1},{2}}'::int8[], 'yes'").first)
            }
        }
        for attempt: () throws -> Void in [
            { _ = try row.decode(0, as: Int64.self) }, { _ = try row.decode(1, as: Int64.self) },
            { _ = try row.decode(2, as: [Int64].self) }, { _ = try row.decode(3, as: Bool.self) },
            { _ = try row.decode(0, as: [UInt8].self) }, { _ = try row.decode(4, as: String.self) },
            { _ = try row.decode("missing", as: String.self) }, { _ = try row.decode(-1, as: String.self) },
        ] {
            let error = try await postgresError { try attempt() }
            #expect(error.kind == .decoding)
            #expect(!String(reflecting: error).contains("secret"))
        }
    }
}
