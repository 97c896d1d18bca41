/// How often a transaction that failed without effect is tried again, and after which pauses.
struct RetryPolicy: Sendable {
    var attempts = 5
    /// How long the outcome of a lost COMMIT is asked for.
    var lookupDeadline: Duration = .seconds(5)
    var firstPause: Duration = .milliseconds(10)
    var longestPause: Duration = .milliseconds(250)

    /// The pause before the attempt after `attempt` (from 1): up to twice as long each time, at random, so that those who
    /// collided once do not collide again.
    func pause(after attempt: Int) -> Duration {
        let ceiling = min(longestPause, firstPause * (1 << min(attempt - 1, 10)))
        return ceiling * Double.random(in: 0...1)
    }
}
