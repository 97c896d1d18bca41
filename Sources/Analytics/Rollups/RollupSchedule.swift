/// When a worker that runs as a service rolls up: soon after logs are written, and for about a third of the time at
/// most.
///
/// A reader adds up what is pending, so few pending logs are what keeps reports fast. A pass for a few logs costs more
/// for each of them. So it waits until many are pending, or for its interval.
package struct RollupSchedule: Sendable {
    package typealias Instant = ContinuousClock.Instant

    /// As many pending ids make a pass due. A reader adds a thousand pending logs in up to a millisecond. Rolling up a
    /// thousand rows at a time costs a fifth more than ten thousand.
    private static let manyPendingIDs: Int64 = 1_000
    /// Readers are slow to find rows without an event, so these are rolled up this often, however few.
    private static let laravelInterval: Duration = .seconds(1)
    /// A look is one small query.
    private static let shortestPause: Duration = .milliseconds(100)
    /// A worker that is late is not held up by its own lateness.
    private static let longestPause: Duration = .seconds(1)

    /// How long a pass rests after a window, and the worker after a pass, as a multiple of what it took: two thirds of
    /// the time are left to ingest.
    package static let rest = 2

    private let interval: Duration
    private var wholePassIsDue: Instant
    private var laravelPassIsDue: Instant

    /// A schedule whose first pass is due at `now`. `interval` is the longest time between two whole passes.
    package init(interval: Duration, now: Instant) {
        self.interval = interval
        (wholePassIsDue, laravelPassIsDue) = (now, now)
    }

    /// Whether the interval since the last whole pass has ended.
    package func isWholePassDue(at now: Instant) -> Bool { now >= wholePassIsDue }

    /// What is to be rolled up at `now`; `nil` for nothing.
    package func scope(pendingIDs: Int64, at now: Instant) -> RollupPass.Scope? {
        if isWholePassDue(at: now) || pendingIDs >= Self.manyPendingIDs { return .everything }
        return now >= laravelPassIsDue ? .laravel : nil
    }

    /// Notes that a pass has come to its end, and returns the pause after it.
    package mutating func pause(afterPassFrom start: Instant, to end: Instant) -> Duration {
        if isWholePassDue(at: start) { wholePassIsDue = end + interval }
        laravelPassIsDue = end + Self.laravelInterval
        return min(max((end - start) * Self.rest, Self.shortestPause), Self.longestPause)
    }

    /// The pause after a look that found nothing to do.
    package static var pause: Duration { shortestPause }
    /// The pause after a pass that failed or was stopped.
    package static var pauseAfterFailure: Duration { longestPause }
}
