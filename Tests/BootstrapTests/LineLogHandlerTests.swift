import Bootstrap
import Logging
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(30))) struct LineLogHandlerTests {
    private final class Lines: Sendable {
        private let text = Mutex("")
        var all: String { text.withLock { $0 } }
        func append(_ line: String) { text.withLock { $0 += line } }
    }

    private func lines(level: Logger.Level = .info, _ log: (Logger) -> Void) -> String {
        let lines = Lines()
        log(Logger(label: "test") { LineLogHandler(label: $0, level: level) { lines.append($0) } })
        return lines.all
    }

    @Test func anEventIsOneLineWithItsFactsInOrder() {
        var text = lines {
            var logger = $0
            logger[metadataKey: "request"] = "7"
            logger.info("stored", metadata: ["count": "2", "path": "/a b", "empty": ""])
        }
        let time = text.prefix { $0 != " " }
        #expect(time.hasSuffix("Z") && time.count == 24)
        text.removeFirst(time.count)
        #expect(text == " info test: stored count=2 empty=\"\" path=\"/a b\" request=7\n")
    }

    @Test func noTextOfAClientMakesASecondLineOrColoursATerminal() {
        let text = lines {
            $0.info("a\nb", metadata: ["path": "x\r\n2026 info forged\u{1B}[31m\u{2028}", "quote": "a\"b"])
        }
        #expect(text.split(whereSeparator: \.isNewline).count == 1)
        #expect(text.hasSuffix(" a\\nb path=\"x\\r\\n2026 info forged\\u{1b}[31m\\u{2028}\" quote=\"a\\\"b\"\n"))
    }

    @Test func lessSevereEventsAreNotWritten() {
        #expect(lines(level: .warning) { $0.info("quiet") }.isEmpty)
        #expect(lines(level: .warning) { $0.warning("loud") }.contains("warning test: loud"))
    }
}
