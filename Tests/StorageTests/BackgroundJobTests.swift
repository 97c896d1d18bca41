import Storage
import Testing

@Suite(.timeLimit(.minutes(30))) struct BackgroundJobTests {
    @Test(arguments: [0, 10, 200, 420]) func anEffectIsSeenWithinItsBound(milliseconds: Int) {
        let (bound, took) = (Duration.milliseconds(900), Duration.milliseconds(milliseconds))
        // A change just after the begin of a round waits for its end, the pause, and the next round.
        #expect(took + BackgroundJob.Rhythm.effect(within: bound).pause(after: took) + took == bound)
    }

    @Test func slowRoundsLeaveAPauseBetweenThem() {
        #expect(BackgroundJob.Rhythm.effect(within: .seconds(1)).pause(after: .seconds(5)) == .milliseconds(50))
    }

    @Test func aFixedPauseDoesNotDependOnTheRound() {
        #expect(BackgroundJob.Rhythm.pause(.seconds(1)).pause(after: .seconds(5)) == .seconds(1))
    }
}
