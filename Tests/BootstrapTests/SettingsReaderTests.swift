import Bootstrap
import InMemoryLogging
import Logging
import Testing

@Suite(.timeLimit(.minutes(30))) struct SettingsReaderTests {
    private static let text = Setting("A", .text, default: "standard", "A text.")
    private static let secret = Setting("A", .secret, "A secret.")

    private func text(_ name: String) -> Setting { Setting(name, .text, "A text.") }

    private func reader(_ environment: [String: String], dotEnv: [String: String] = [:]) -> SettingsReader {
        SettingsReader(environment: environment, dotEnv: dotEnv)
    }

    private func problems(_ environment: [String: String], _ build: (SettingsReader) -> Void) -> [String] {
        do {
            try reader(environment).read(build)
            return []
        } catch {
            return (error as? ConfigurationError)?.problems ?? ["\(error)"]
        }
    }

    @Test func theRealEnvironmentWinsOverTheFileAlsoWithAnEmptyValue() {
        let settings = reader(["A": "real", "B": ""], dotEnv: ["A": "file", "B": "file", "C": "file"])
        #expect(settings.optionalString(text("A")) == "real")
        #expect(settings.string(Setting("B", .text, default: "standard", "A text.")) == "standard")
        #expect(settings.optionalString(text("C")) == "file")
        #expect(settings.optionalString(text("D")) == nil)
    }

    @Test(arguments: ["", "null", "(null)", "NULL", "empty", "(empty)"])
    func laravelsWordsForNothingAreNothing(word: String) {
        #expect(reader(["A": word]).string(Self.text) == "standard")
        #expect(reader(["A": word]).secret(Self.secret) == nil)
    }

    @Test func aMalformedValueIsAProblemNeverTheDefault() {
        let problems = problems([
            "PORT": "80x", "HIGH": "70000", "FLAG": "maybe", "WAIT": "soon", "SIZE": "9TB", "NETS": "10.0.0.1/8",
        ]) {
            _ = $0.int(Setting("PORT", .number(1...65535), default: "8080", "A port."))
            _ = $0.int(Setting("HIGH", .number(1...65535), default: "8080", "A port."))
            _ = $0.bool(Setting("FLAG", .boolean, default: "true", "A flag."))
            _ = $0.duration(Setting("WAIT", .duration(.seconds(1) ... .seconds(60)), default: "5s", "A time."))
            _ = $0.bytes(Setting("SIZE", .bytes(1...1024), default: "1", "A size."))
            _ = $0.cidrs(Setting("NETS", .networks, "Networks."))
            _ = $0.logLevel()
        }
        #expect(
            problems == [
                "PORT: '80x' is not a number from 1 to 65535",
                "HIGH: '70000' is not a number from 1 to 65535",
                "FLAG: 'maybe' is not true or false",
                "WAIT: 'soon' is not a time from 1s to 60s, such as 15s or 500ms",
                "SIZE: '9TB' is not a size from 1 to 1024 bytes",
                "NETS: '10.0.0.1/8' is not a list of addresses such as 10.0.0.0/8, 2001:db8::1",
            ])
    }

    @Test func aProblemStaysOnOneLine() {
        let problems = problems(["PORT": "1\nFORGED: line\u{1B}[31m"]) {
            _ = $0.int(Setting("PORT", .number(0...1), default: "0", "A port."))
        }
        #expect(problems.count == 1)
        #expect(problems.first.map { !$0.contains { $0.isNewline || $0 == "\u{1B}" } } == true)
    }

    @Test(arguments: [
        ("15", Duration.seconds(15)), ("15s", .seconds(15)), ("500ms", .milliseconds(500)), ("2m", .seconds(120)),
        ("1h", .seconds(3600)), ("2 m", .seconds(120)),
    ])
    func timesHaveUnits(text: String, duration: Duration) {
        let setting = Setting("A", .duration(.zero ... .seconds(7200)), default: "0s", "A time.")
        #expect(reader(["A": text]).duration(setting) == duration)
    }

    @Test(arguments: [("65536", 65536), ("64K", 65536), ("64kb", 65536), ("64MB", 64 << 20), ("1GiB", 1 << 30)])
    func sizesHaveUnits(text: String, bytes: Int) {
        #expect(reader(["A": text]).bytes(Setting("A", .bytes(0...Int.max), default: "0", "A size.")) == bytes)
    }

    @Test(arguments: [
        ("true", true), ("(true)", true), ("1", true), ("On", true), ("YES", true), ("false", false),
        ("(false)", false), ("0", false), ("off", false), ("no", false),
    ])
    func truthHasLaravelsWords(text: String, truth: Bool) {
        #expect(reader(["A": text]).bool(Setting("A", .boolean, default: "\(!truth)", "A flag.")) == truth)
    }

    @Test(arguments: [("DEBUG", "debug"), ("emergency", "critical"), ("notice", "notice"), ("", "info")])
    func laravelsLogLevelsAreKnown(text: String, level: String) {
        #expect(reader(["LOG_LEVEL": text]).logLevel().rawValue == level)
    }

    @Test func theEffectiveSettingsNameValueAndSourceAndHideSecrets() {
        let settings = reader(["PORT": "1", "KEY": "s3cret"], dotEnv: ["HOST": "db", "PORT": "2"])
        _ = settings.int(Setting("PORT", .number(0...9), default: "3", "A port."))
        _ = settings.string(Setting("HOST", .text, default: "localhost", "A host."))
        _ = settings.duration(Setting("WAIT", .duration(.zero ... .seconds(9)), default: "1500ms", "A time."))
        _ = settings.secret(Setting("KEY", .secret, "A key."))
        _ = settings.secret(Setting("OTHER", .secret, "A key."))
        #expect(
            settings.effective.map(\.description) == [
                "HOST=db (.env)", "KEY=*** (environment)", "OTHER= (default)", "PORT=1 (environment)",
                "WAIT=1500ms (default)",
            ])
        let logs = InMemoryLogHandler()
        settings.log(to: Logger(label: "test") { _ in logs })
        #expect(logs.entries.map(\.message) == ["configuration"])
        #expect(logs.entries.first?.metadata["KEY"] == "*** (environment)")
    }

    @Test func aTableHasEachNameOnce() {
        let table = SettingsTable([Setting("B", .number(1...9), default: "3", #"A "b"."#)]) + [text("A"), text("B")]
        #expect(table["B"].kind == .number(1...9))
        #expect(
            table.json == """
                {"default": "", "form": "a text", "meaning": "A text.", "name": "A", "secret": false}
                {"default": "3", "form": "a number from 1 to 9", "meaning": "A \\"b\\".", "name": "B", "secret": false}
                """)
    }

    @Test func aSecretPrintsNowhere() {
        let secret = Secret("s3cret")
        var dumped = ""
        dump([secret], to: &dumped)
        for text in ["\(secret)", String(reflecting: [secret]), "\(Optional(secret) as Any)", dumped] {
            #expect(!text.contains("s3cret"))
        }
        #expect(secret.reveal() == "s3cret")
    }
}
