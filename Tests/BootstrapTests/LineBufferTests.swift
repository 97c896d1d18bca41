import Bootstrap
import Domain
import Logging
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(30))) struct LineBufferTests {
    /// What was written, piece by piece.
    private final class Written: Sendable {
        private let pieces = Mutex<[String]>([])
        var all: [String] { pieces.withLock { $0 } }
        func add(_ text: String) { pieces.withLock { $0.append(text) } }
    }

    private let time = Timestamp(microseconds: 1_795_435_200_012_999)

    private func buffer(_ written: Written) -> LineBuffer {
        LineBuffer(label: "test") { written.add(String(decoding: $0, as: UTF8.self)) }
    }

    @Test func aLineIsAsTheLogHandlerWritesIt() throws {
        let (written, logged) = (Written(), Written())
        var lines = buffer(written)
        let pairs = [("a", "b c"), ("empty", ""), ("path", "/x\"=\n\u{1B}"), ("ş", "ğ")]
        lines.append("request", pairs, at: time)
        lines.flush()
        let handler = LineLogHandler(label: "test", level: .info) { logged.add($0) }
        Logger(label: "test") { _ in handler }.info(
            "request", metadata: Dictionary(uniqueKeysWithValues: pairs.map { ($0, .string($1)) }))
        let line = try #require(written.all.first)
        #expect(line.hasPrefix("2026-11-23T12:00:00.012Z info test: request "))
        #expect(line.dropFirst(24) == logged.all.first?.dropFirst(24))
    }

    @Test func theTimeOfEachLineIsItsOwn() {
        let written = Written()
        var lines = buffer(written)
        for microseconds in [0, 1_000, 999_000, 1_000_000, -1_000_000] as [Int64] {
            lines.append("x", [], at: Timestamp(microseconds: time.microseconds + microseconds))
        }
        lines.flush()
        let times = written.all.joined().split(separator: "\n").map { $0.prefix(24) }
        #expect(
            times == [
                "2026-11-23T12:00:00.012Z", "2026-11-23T12:00:00.013Z", "2026-11-23T12:00:01.011Z",
                "2026-11-23T12:00:01.012Z", "2026-11-23T11:59:59.012Z",
            ])
    }

    @Test func linesAreWrittenInPiecesThatAPipeTakesAtOnce() {
        let written = Written()
        var lines = buffer(written)
        for index in 0..<100 { lines.append("line", [("index", "\(index)")], at: time) }
        lines.append("long", [("text", String(repeating: "x", count: 10_000))], at: time)
        lines.append("last", [], at: time)
        lines.flush()
        #expect(lines.isEmpty)
        #expect(written.all.allSatisfy { $0.hasSuffix("\n") && ($0.utf8.count <= 4096 || $0.contains("long")) })
        let all = written.all.joined().split(separator: "\n")
        #expect(all.count == 102 && all[99].hasSuffix("index=99") && all[101].hasSuffix("last"))
        #expect(written.all.count < 10)
    }

    @Test func manyLinesAreWrittenWithoutAFlush() {
        let written = Written()
        var lines = buffer(written)
        for _ in 0..<2000 { lines.append("line", [], at: time) }
        #expect(!written.all.isEmpty)
    }
}
