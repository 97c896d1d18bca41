internal import Glibc

/// The moment of a log line, in UTC as RFC 3339 writes it, with milliseconds: `2026-01-31T12:00:00.000Z`.
struct LogTime: CustomStringConvertible {
    private let time: timespec

    /// The wall clock's time. A line's time is for people; whatever is stored has its time injected.
    static var now: LogTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return LogTime(time: time)
    }

    var description: String {
        var seconds = time.tv_sec
        var parts = tm()
        gmtime_r(&seconds, &parts)
        let numbers = [
            (Int(parts.tm_year) + 1900, 4, "-"), (Int(parts.tm_mon) + 1, 2, "-"), (Int(parts.tm_mday), 2, "T"),
            (Int(parts.tm_hour), 2, ":"), (Int(parts.tm_min), 2, ":"), (Int(parts.tm_sec), 2, "."),
            (time.tv_nsec / 1_000_000, 3, "Z"),
        ]
        return numbers.reduce(into: "") { text, number in
            let digits = String(number.0)
            for _ in digits.utf8.count..<number.1 { text += "0" }
            text += digits
            text += number.2
        }
    }
}
