import Foundation
import Glibc
import Logging
import Synchronization

/// Reports the progress of long work: on a terminal one line that is overwritten, elsewhere a log line a second.
final class ProgressReport: Sendable {
    private let logger: Logger
    private let unit: String
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let start = ContinuousClock.now
    private let nextLine = Mutex(ContinuousClock.now + .seconds(1))

    /// A report of work counted in `unit`, such as "rows".
    init(of unit: String, logger: Logger) {
        self.unit = unit
        self.logger = logger
    }

    /// Reports, at most once a second, that `done` of about `done + remaining` units are done.
    func update(done: Int, remaining: Int) {
        let now = ContinuousClock.now
        let isDue = nextLine.withLock { next in
            guard now >= next else { return false }
            next = now + .seconds(1)
            return true
        }
        guard isDue else { return }
        let rate = Double(done) / max((now - start) / .seconds(1), 0.001)
        let left = rate > 0 ? "\(Int(Double(remaining) / rate)) s" : "unknown"
        if isTerminal {
            write("\r\(done) \(unit), \(Int(rate)) a second, at most \(remaining) left, \(left)\u{1B}[K")
        } else {
            logger.info(
                "progress",
                metadata: ["done": "\(done)", "unit": "\(unit)", "per_second": "\(Int(rate))", "left": "\(left)"])
        }
    }

    /// Clears the terminal's line.
    func end() {
        if isTerminal { write("\r\u{1B}[K") }
    }

    private func write(_ text: String) {
        FileHandle.standardError.write(Data(text.utf8))
    }
}
