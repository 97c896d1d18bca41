import Domain
import Postgres
import Storage
import TestSupport
import Testing

@testable import Analytics

/// Each new row of `api_logs` is found once, whatever the order of commits.
@Suite(.timeLimit(.minutes(30))) struct LogTailTests {
    private static let insertion: Query = """
        INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                              created_at)
        VALUES (1, 'm', 1, 1, 0.5, 1, 'success', '2026-11-23 12:00:00')
        """

    /// A tail that is read as `admin-api` does it.
    private actor Reader {
        let bench: StorageBench
        var tail: LogTail?
        /// The ids that were found, in order.
        var ids: [Int64] = []

        /// What the mark says after the line.
        var place: Substring? { tail?.mark.text.split(separator: "~", maxSplits: 1).last }

        init(_ bench: StorageBench) { self.bench = bench }

        @discardableResult
        func step(limit: Int = 10_000) async throws -> LogTail.Step {
            let former = tail
            let (next, step) = try await bench.admin.withConnection { connection -> (LogTail, LogTail.Step) in
                var former = former
                if former?.needsWriters == true { try former?.note(writersOn: connection) }
                return try ReportSnapshot.take(connection) { [former] snapshot in
                    guard var tail = former else { return (try LogTail.begin(on: snapshot), LogTail.Step()) }
                    let step = try tail.advance(limit: limit, on: snapshot)
                    return (tail, step)
                }
            }
            tail = next
            ids += step.entries.map(\.id)
            return step
        }

        func missed(since mark: LogMark, of user: Int64? = nil, limit: Int = 100) async throws -> [Int64]? {
            let tail = tail
            return try await bench.admin.withConnection { connection in
                try ReportSnapshot.take(connection) { snapshot in
                    try tail?.missed(since: mark, of: user, limit: limit, on: snapshot)?.map(\.id)
                }
            }
        }
    }

    private func withReader(_ body: (StorageBench, Reader) async throws -> Void) async throws {
        try await StorageBench.with { bench in
            for id in [1, 2] {
                try await bench.execute(
                    "INSERT INTO users (id, name, email, password) VALUES (\(id), 'U', \("u\(id)@example.com"), 'x')")
            }
            let reader = Reader(bench)
            try await body(bench, reader)
        }
    }

    /// An open transaction that has inserted a row.
    private func open(_ bench: StorageBench) async throws -> OpenTransaction {
        try await OpenTransaction.begin(bench.pool) { _ = try $0.execute(Self.insertion) }
    }

    @Test func rowsThatCommitOutOfOrderAreFoundOnceEach() async throws {
        try await withReader { bench, reader in
            try await reader.step()
            let first = try await open(bench)
            let second = try await open(bench)
            try await bench.execute(Self.insertion)
            try await reader.step()
            #expect(await reader.ids == [3])
            #expect(await reader.place == "3~0.2")
            // However many steps there are meanwhile.
            for _ in 0..<3 { try await reader.step() }
            try await second.end()
            try await reader.step()
            #expect(await reader.ids == [3, 2])
            try await first.end()
            for _ in 0..<3 { try await reader.step() }
            #expect(await reader.ids == [3, 2, 1])
            #expect(await reader.place == "3")
        }
    }

    @Test func aTransactionIsFoundThatWasOpenAtTheBegin() async throws {
        try await withReader { bench, reader in
            let first = try await open(bench)
            try await bench.execute(Self.insertion)
            try await reader.step()
            #expect(await reader.place == "2~0.1")
            try await first.end()
            try await reader.step()
            #expect(await reader.ids == [1])
        }
    }

    @Test func idsOfARollbackAreForgotten() async throws {
        try await withReader { bench, reader in
            try await reader.step()
            try await bench.execute("SELECT nextval('api_logs_id_seq') FROM generate_series(1, 1000)")
            try await bench.execute(Self.insertion)
            try await reader.step()
            #expect(await reader.place == "1001~0.1000")
            let other = try await open(bench)
            // The open transaction began after the gap was seen, and is not waited for; before its listing it may be.
            try await reader.step()
            try await other.end()
            try await reader.step()
            try await reader.step()
            #expect(await reader.ids == [1001, 1002])
            #expect(await reader.place == "1002")
        }
    }

    @Test func manyRowsAreReadInSteps() async throws {
        try await withReader { bench, reader in
            try await reader.step()
            let first = try await open(bench)
            try await bench.execute(
                """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status)
                SELECT 1, 'm', 1, 1, 0.5, 1, 'success' FROM generate_series(1, 25)
                """)
            #expect(try await reader.step(limit: 10).isComplete == false)
            #expect(try await reader.step(limit: 10).isComplete == false)
            #expect(try await reader.step(limit: 10).isComplete)
            #expect(await reader.ids == Array(2...26))
            try await first.end()
            try await reader.step(limit: 10)
            #expect(await reader.ids.last == 1)
        }
    }

    @Test func aReaderThatComesBackGetsWhatIsMissing() async throws {
        try await withReader { bench, reader in
            try await reader.step()
            let first = try await open(bench)
            for user in [1, 2, 1] {
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                          status)
                    VALUES (\(user), 'm', 1, 1, 0.5, 1, 'success')
                    """)
            }
            let begin = try #require(await reader.tail?.mark)
            let step = try await reader.step()
            let end = try #require(await reader.tail?.mark)
            #expect(step.entries.map(\.id) == [2, 3, 4])
            // After each row of the step, the later ones and the open one are missing.
            let marks = step.entries.map { begin.advanced(through: $0.position, towards: end) }
            #expect(marks.map { $0.text.split(separator: "~", maxSplits: 1).last } == ["2~0.1", "3~0.1", "4~0.1"])
            try await first.end()
            try await reader.step()
            #expect(try await reader.missed(since: begin) == [1, 2, 3, 4])
            #expect(try await reader.missed(since: begin, of: 1) == [1, 2, 4])
            #expect(try await reader.missed(since: marks[0]) == [1, 3, 4])
            #expect(try await reader.missed(since: marks[0], of: 2) == [3])
            #expect(try await reader.missed(since: marks[2]) == [1])
            #expect(try await reader.missed(since: try #require(await reader.tail?.mark)) == [])
            #expect(try await reader.missed(since: begin, limit: 3) == nil)
            #expect(try await reader.missed(since: LogMark(line: end.line + 1, top: 4, gaps: [])) == nil)
            #expect(try await reader.missed(since: LogMark(line: end.line, top: 5, gaps: [])) == nil)
        }
    }

    @Test func idsThatBeginAgainResetTheTail() async throws {
        try await withReader { bench, reader in
            for _ in 0..<3 { try await bench.execute(Self.insertion) }
            try await reader.step()
            let mark = try #require(await reader.tail?.mark)
            try await bench.execute("TRUNCATE api_logs RESTART IDENTITY")
            try await bench.execute(Self.insertion)
            #expect(try await reader.step().isReset)
            #expect(try await reader.missed(since: mark) == nil)
            try await bench.execute(Self.insertion)
            #expect(try await reader.step().isReset == false)
            #expect(await reader.ids == [2])
        }
    }

    @Test func tooManyGapsResetTheTailWhenTheirTransactionsHaveEnded() async throws {
        try await withReader { bench, reader in
            try await reader.step()
            let first = try await open(bench)
            // Every other id is left out.
            let half: Query = """
                INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status)
                SELECT 1, 'm', nextval('api_logs_id_seq'), 1, 0.5, 1, 'success' FROM generate_series(1, 1500)
                """
            for _ in 0..<3 {
                try await bench.execute(half)
                try await reader.step()
            }
            #expect(try await reader.step().isReset == false)
            try await first.end()
            #expect(try await reader.step().isReset)
            #expect(try await reader.step().isReset == false)
        }
    }

    @Test(arguments: ["0~5", "0~5~1.2", "3~900~1.2~10.1~20.870"]) func aMarkIsReadAsItIsWritten(text: String) {
        #expect(LogMark(text: text)?.text == text)
    }

    @Test(arguments: [
        "", "5", "0~5~", "0~5~1", "0~5~1.0", "0~5~1.-2", "0~5~1.9", "0~5~3.1~1.1", "0~5~1.9223372036854775807", "0~5~*",
        "x~5", "0~5~1.2.3", "0~99999999999999999999",
    ])
    func otherTextIsNoMark(text: String) {
        #expect(LogMark(text: text) == nil)
    }

    @Test func aMarkWithTooManyGapsIsNotContinuedFrom() {
        let gaps = (0..<65).map { LogMark.Gap(after: 2 * $0, through: 2 * $0 + 1) }
        #expect(LogMark(line: 0, top: 1_000, gaps: gaps).text == "0~1000~*")
    }
}
