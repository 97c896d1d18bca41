import Testing

@testable import Analytics

/// How soon a worker that is a service rolls up what was written.
@Suite(.timeLimit(.minutes(30))) struct RollupScheduleTests {
    private let start = ContinuousClock.now

    private func schedule() -> RollupSchedule {
        RollupSchedule(interval: .seconds(60), now: start)
    }

    @Test func theFirstPassIsOfEverything() {
        #expect(schedule().scope(pendingIDs: 0, at: start) == .everything)
    }

    @Test func fewLogsWaitForTheIntervalAndLaravelsRowsForASecond() {
        var schedule = schedule()
        _ = schedule.pause(afterPassFrom: start, to: start)
        let scopes = [0.1, 0.9, 1, 30, 59.9, 60].map {
            schedule.scope(pendingIDs: 999, at: start + .seconds($0))
        }
        #expect(scopes == [nil, nil, .laravel, .laravel, .laravel, .everything])
    }

    @Test func manyLogsDoNotWait() {
        var schedule = schedule()
        _ = schedule.pause(afterPassFrom: start, to: start)
        #expect(schedule.scope(pendingIDs: 1_000, at: start + .milliseconds(1)) == .everything)
    }

    /// A pass for many logs, between two of the interval, does not put off the next one.
    @Test func theIntervalIsCountedFromPassToPass() {
        var schedule = schedule()
        _ = schedule.pause(afterPassFrom: start, to: start)
        _ = schedule.pause(afterPassFrom: start + .seconds(59), to: start + .seconds(59))
        #expect(schedule.scope(pendingIDs: 0, at: start + .seconds(60)) == .everything)
        _ = schedule.pause(afterPassFrom: start + .seconds(60), to: start + .seconds(61))
        #expect(!schedule.isWholePassDue(at: start + .seconds(120)))
        #expect(schedule.isWholePassDue(at: start + .seconds(121)))
    }

    static let pauses: [(took: Duration, pause: Duration)] = [
        (.milliseconds(3), .milliseconds(100)), (.milliseconds(80), .milliseconds(160)),
        (.milliseconds(400), .milliseconds(800)), (.seconds(2), .seconds(1)),
    ]

    @Test(arguments: pauses)
    func aPassLeavesTwoThirdsOfTheTimeToIngest(_ took: Duration, _ pause: Duration) {
        var schedule = schedule()
        #expect(schedule.pause(afterPassFrom: start, to: start + took) == pause)
    }
}
