import Bootstrap
import InMemoryLogging
import Logging
import Testing

@Suite(.timeLimit(.minutes(15))) struct SettingsReaderTests {
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

    @Test func `The real environment wins over the file, also with an empty value`() {
        let settings = reader(["A": "real", "B": ""], dotEnv: ["A": "file", "B": "file", "C": "file"])
        #expect(settings.string("A") == "real")
        #expect(settings.string("B", default: "standard") == "standard")
        #expect(settings.string("C") == "file")
        #expect(settings.string("D") == nil)
    }

    @Test(arguments: ["", "null", "(null)", "NULL", "empty", "(empty)"])
    func `Laravel's words for nothing are nothing`(word: String) {
        #expect(reader(["A": word]).string("A", default: "standard") == "standard")
        #expect(reader(["A": word]).secret("A") == nil)
    }

    @Test func `A malformed value is a problem, never the default`() {
        let problems = problems([
            "PORT": "80x", "HIGH": "70000", "FLAG": "maybe", "WAIT": "soon", "SIZE": "9TB", "NETS": "10.0.0.1/8",
        ]) {
            _ = $0.int("PORT", in: 1...65535, default: 8080)
            _ = $0.int("HIGH", in: 1...65535, default: 8080)
            _ = $0.bool("FLAG", default: true)
            _ = $0.duration("WAIT", in: .seconds(1) ... .seconds(60), default: .seconds(5))
            _ = $0.bytes("SIZE", in: 1...1024, default: 1)
            _ = $0.cidrs("NETS")
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

    @Test func `A problem stays on one line`() {
        let problems = problems(["PORT": "1\nFORGED: line\u{1B}[31m"]) { _ = $0.int("PORT", in: 0...1, default: 0) }
        #expect(problems.count == 1)
        #expect(problems.first.map { !$0.contains { $0.isNewline || $0 == "\u{1B}" } } == true)
    }

    @Test(arguments: [
        ("15", Duration.seconds(15)), ("15s", .seconds(15)), ("500ms", .milliseconds(500)), ("2m", .seconds(120)),
        ("1h", .seconds(3600)), ("2 m", .seconds(120)),
    ])
    func `Times have units`(text: String, duration: Duration) {
        #expect(reader(["A": text]).duration("A", in: .zero ... .seconds(7200), default: .zero) == duration)
    }

    @Test(arguments: [("65536", 65536), ("64K", 65536), ("64kb", 65536), ("64MB", 64 << 20), ("1GiB", 1 << 30)])
    func `Sizes have units`(text: String, bytes: Int) {
        #expect(reader(["A": text]).bytes("A", in: 0...Int.max, default: 0) == bytes)
    }

    @Test(arguments: [
        ("true", true), ("(true)", true), ("1", true), ("On", true), ("YES", true), ("false", false),
        ("(false)", false),
        ("0", false), ("off", false), ("no", false),
    ])
    func `Truth has Laravel's words`(text: String, truth: Bool) {
        #expect(reader(["A": text]).bool("A", default: !truth) == truth)
    }

    @Test(arguments: [("DEBUG", "debug"), ("emergency", "critical"), ("notice", "notice"), ("", "info")])
    func `Laravel's log levels are known`(text: String, level: String) {
        #expect(reader(["LOG_LEVEL": text]).logLevel().rawValue == level)
    }

    @Test func `The effective settings name value and source, and hide secrets`() {
        let settings = reader(["PORT": "1", "KEY": "s3cret"], dotEnv: ["HOST": "db", "PORT": "2"])
        _ = settings.int("PORT", in: 0...9, default: 3)
        _ = settings.string("HOST", default: "localhost")
        _ = settings.duration("WAIT", in: .zero ... .seconds(9), default: .milliseconds(1500))
        _ = settings.secret("KEY")
        _ = settings.secret("OTHER")
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

    @Test func `A secret prints nowhere`() {
        let secret = Secret("s3cret")
        var dumped = ""
        dump([secret], to: &dumped)
        for text in ["\(secret)", String(reflecting: [secret]), "\(Optional(secret) as Any)", dumped] {
            #expect(!text.contains("s3cret"))
        }
        #expect(secret.reveal() == "s3cret")
    }
}
