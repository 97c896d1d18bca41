import Bootstrap
import Testing

@Suite(.timeLimit(.minutes(30))) struct DotEnvTests {
    @Test(arguments: [
        ("A=b", "b"), ("A = b ", "b"), ("export A=b", "b"), ("A=", ""), ("A=''", ""), ("A=b # note", "b"),
        ("A=b#note", "b"), ("A=#note", ""), ("A='b # c'", "b # c"), ("A='it\\n'", "it\\n"),
        ("A=\"b # c\" # note", "b # c"),
        ("A=\"x\\n\\t\\\"\\\\\\$\"", "x\n\t\"\\$"), ("A=b=c", "b=c"), ("A=base64:q/4+==", "base64:q/4+=="),
        ("A=\"two\nlines\"", "two\nlines"), ("A=p$ss", "p$ss"), ("A=${NOBODY}", "${NOBODY}"), ("A=${", "${"),
        ("\u{FEFF}A=b", "b"), ("A=ı-ş", "ı-ş"), ("A=\"\"\nA=b", "b"),
    ])
    func aValueIsReadAsPhpdotenvReadsIt(text: String, value: String) throws {
        #expect(try DotEnv(parsing: text).values == ["A": value])
    }

    @Test(arguments: ["\n", "\r\n", "\r"]) func linesEndInAnyOfTheUsualWays(newline: String) throws {
        let lines = [
            "# Laravel", "", "APP_NAME=\"Codex Flow\"", "  DB_HOST=db  ", "EMPTY=", "NAMED_ONLY", "DB_PORT=5433",
        ]
        let values = try DotEnv(parsing: lines.joined(separator: newline)).values
        #expect(values == ["APP_NAME": "Codex Flow", "DB_HOST": "db", "EMPTY": "", "DB_PORT": "5433"])
    }

    @Test func referencesNameTheRealEnvironmentFirstThenEarlierLinesAndNothingInSingleQuotes() throws {
        let text =
            "HOST=file\nPORT=1\nURL=http://${HOST}:${PORT}/\nQUOTED=\"<${PORT}>\"\nRAW='${PORT}'\nESCAPED=\"\\${PORT}\""
        let values = try DotEnv(parsing: text, environment: ["HOST": "real"]).values
        #expect(values["URL"] == "http://real:1/")
        #expect(values["QUOTED"] == "<1>")
        #expect(values["RAW"] == "${PORT}")
        #expect(values["ESCAPED"] == "${PORT}")
    }

    @Test func everyMalformedLineIsNamedByItsNumberAndNoValueIsShown() {
        let text = "GOOD=1\nBAD NAME=s3cret\n=s3cret\nA=s3cret two words\nB='s3cret\nC=\"s3cret\\q\"\nD=\"s3cret"
        let error = #expect(throws: ConfigurationError.self) { try DotEnv(parsing: text) }
        let problems = error?.problems ?? []
        #expect(problems.map { $0.prefix(11) } == (2...7).map { ".env line \($0)" })
        #expect(!problems.contains { $0.contains("s3cret") })
    }
}
