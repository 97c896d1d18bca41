internal import Domain

/// When a call began, from the literal digits of its epoch seconds (`design.md` §4).
enum EventTime: Hashable {
    case stated(Timestamp)
    /// At most 24 hours in our future: a wrong clock, so the arrival stands instead.
    case ahead
    /// No time, older than the retention, or further ahead; the time where there is one.
    case implausible(Timestamp?)

    init(_ start: DecimalLiteral?, arrival: Arrival) {
        guard let time = start?.scaled(by: 6, .towardZero).flatMap(Int64.init(exactly:)).map(Timestamp.init) else {
            self = .implausible(nil)
            return
        }
        if time < arrival.at.advanced(by: .zero - arrival.retention) || time > arrival.at.advanced(by: .seconds(86_400))
        {
            self = .implausible(time)
        } else {
            self = time > arrival.at ? .ahead : .stated(time)
        }
    }

    /// Milliseconds from `start` to `end`, rounded half up from the literals, not below 0; `nil` where one is missing.
    static func milliseconds(from start: DecimalLiteral?, to end: DecimalLiteral?) -> Int64? {
        guard let start = start?.scaled(by: 18, .towardZero), let end = end?.scaled(by: 18, .towardZero) else {
            return nil
        }
        let millisecond: Int128 = 1_000_000_000_000_000
        return clamped((max(end - start, 0) + millisecond / 2) / millisecond)
    }

    /// Milliseconds of a number of seconds, as above.
    static func milliseconds(seconds: DecimalLiteral?) -> Int64? {
        guard let seconds else { return nil }
        return seconds.isBelowZero ? 0 : seconds.scaled(by: 3).map(clamped) ?? longest
    }

    /// What `api_logs.response_time_ms` holds.
    private static let longest = Int64(Int32.max)

    private static func clamped(_ milliseconds: Int128) -> Int64 {
        Int64(min(milliseconds, Int128(longest)))
    }
}
