import HTTPSupport
import HTTPTypes
import Postgres
import TestSupport
import Testing

@testable import AdminAPI

/// Cells that others wrote, as a spreadsheet reads them.
@Suite(.timeLimit(.minutes(30))) struct CSVTests {
    private func cell(_ text: String) -> String {
        var bytes: [UInt8] = []
        CSV.append(text.utf8, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test(arguments: [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-x", "'-x"), ("@a", "'@a"), ("＝1", "'＝1"), ("＋1", "'＋1"), ("－1", "'－1"),
        ("＠a", "'＠a"), ("﹦1", "'﹦1"), ("\u{2212}1", "'\u{2212}1"), ("  =1", "  '=1"), ("\u{FEFF}=1", "\u{FEFF}'=1"),
        ("\u{200B}\u{202E}@a", "\u{200B}\u{202E}'@a"), ("\u{A0}\u{3000}+1", "\u{A0}\u{3000}'+1"),
        ("\u{1}=1", "\u{1}'=1"), ("-1-1", "'-1-1"), ("-.5e", "'-.5e"),
    ])
    func whatBeginsAFormulaDoesNot(text: String, expected: String) {
        #expect(cell(text) == "\"\(expected)\"")
    }

    @Test(arguments: [
        ("a;=1", "\"a;'=1\""), ("a; \u{200B}＝1", "\"a; \u{200B}'＝1\""), (";-1;+2", "\";'-1;'+2\""),
        ("a;\"=1", "\"a;\"\"'=1\""), ("a\n=1", "\"a\n'=1\""), ("a\r\n@b", "\"a\r\n'@b\""), ("a\t=1", "\"a\t'=1\""),
        ("\tx", "\"'\tx\""), ("\rx", "\"'\rx\""), ("\t=1", "\"'\t'=1\""),
    ])
    func norDoesWhatASpreadsheetOfAnotherLanguageSplits(text: String, expected: String) {
        #expect(cell(text) == expected)
    }

    @Test(arguments: [
        "gpt-4", "a=b", "a @b", "x+y", "-0.5", "-12", "0", "12.25", "2026-11-23 08:04:09", "é-a", "😀", "",
    ])
    func everythingElseStaysAsItIs(text: String) {
        #expect(cell(text) == text)
    }

    @Test func quotesAreDoubledAndSeparatorsQuoted() {
        #expect(cell("say \"hi\", you") == "\"say \"\"hi\"\", you\"")
    }

    /// By both writers, and in each place where a client's words stand.
    @Test func noCellOfAnExportBeginsAFormula() async throws {
        let hostile = ["=cmd()", " ＝cmd()", "a;=cmd()", "\u{FEFF}@cmd", "\t+cmd()"]
        try await AdminBench.with { bench in
            try await bench.makeUser(1)
            let token = try await bench.token(of: 1)
            for text in hostile {
                try await bench.execute(
                    """
                    INSERT INTO api_logs (user_id, model, input_tokens, output_tokens, total_cost, response_time_ms,
                                          status,
                                          error_message, created_at)
                    VALUES (1, \(text), 1, 1, -0.5, 1, 'error', \(text), '2026-11-23 07:00:00')
                    """)
            }
            try await bench.execute(
                """
                INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                    cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream,
                    is_cache_hit,
                    shape, status, plan, model_group, model, provider, end_user, tags, cost)
                SELECT metering.event_key_floor(l.created_at AT TIME ZONE 'UTC'), l.id, 1,
                       l.created_at AT TIME ZONE 'UTC',
                    1, 1, 0, 0, 0, 2, 1, false, false, 'litellm', 'error', 'pro', '=cmd()', '=cmd()', '@cmd', ' ＠cmd',
                    ARRAY['x', '=cmd()', ' +cmd'], 0.5
                FROM api_logs l ORDER BY l.id LIMIT 1
                """)
            let paths = [
                "/api/usage/export", "/api/v1/logs", "/api/v1/analytics/breakdown?group_by=model&from=2026-11-01",
                "/api/v1/analytics/breakdown?group_by=end_user&from=2026-11-23",
                "/api/v1/analytics/breakdown?group_by=tag&from=2026-11-23",
                "/api/v1/analytics/timeseries?group_by=provider&from=2026-11-23",
            ]
            for path in paths {
                let answer = try await bench.send(.get, path, as: token, headers: [.accept: "text/csv"])
                #expect(answer.status == 200 && answer.body.contains("cmd"), "\(path): \(answer)")
                // However it is split: at commas, semicolons, tabs, lines and quotes.
                for piece in answer.body.split(whereSeparator: { ",;\t\"".contains($0) || $0.isNewline }) {
                    let visible = piece.unicodeScalars.drop { $0.properties.isWhitespace || $0 == "\u{FEFF}" }
                    let begins = visible.first.map { "=+-@＝＋－＠".unicodeScalars.contains($0) } ?? false
                    #expect(!begins || Double(String(piece)) != nil, "\(path): \(piece)")
                }
            }
            let rows = try await bench.send(.get, "/api/usage/export", as: token)
            #expect(rows.body.contains(",-0.500000,"))
        }
    }
}
