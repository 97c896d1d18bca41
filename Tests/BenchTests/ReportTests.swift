import Testing

@testable import Bench

/// The output of the load generators, and the table.
@Suite(.timeLimit(.minutes(30))) struct ReportTests {
    @Test func theReportOfWrkIsRead() throws {
        let output = """
            Running 1s test @ http://127.0.0.1:8081
              1 threads and 64 connections
            Requests/sec:  14000.12
            {"requests":14000,"seconds":1.001,"mean":4.2,"median":4.0,"percentile99":19.5,"failures":3}
            """
        let report = try WrkReport(output)
        #expect((report.requests, report.failures) == (14_000, 3))
        #expect((report.seconds, report.mean, report.median, report.percentile99) == (1.001, 4.2, 4.0, 19.5))
        #expect(throws: WrongResult.self) { try WrkReport("unable to connect to 127.0.0.1:8081") }
    }

    @Test(arguments: [0, 2])
    func theReportOfPgbenchIsRead(failed: Int) throws {
        let output = """
            pgbench (15.18 (Debian 15.18-0+deb12u1))
            transaction type: naive.sql
            number of transactions actually processed: 18505
            number of failed transactions: \(failed) (0.000%)
            latency average = 17.293 ms
            initial connection time = 101.456 ms
            tps = 3701.023456 (without initial connection time)
            """
        guard failed == 0 else {
            #expect(throws: WrongResult.self) { try PgbenchReport(output) }
            return
        }
        let report = try PgbenchReport(output)
        #expect((report.transactions, report.rate, report.meanLatency) == (18_505, 3701.023456, 17.293))
        #expect(throws: WrongResult.self) { try PgbenchReport("connection to server failed") }
    }

    @Test func columnsStandUnderEachOther() {
        #expect(ReportTable.aligned([["name", "a", ""], ["x", "100", "met"]]) == "name    a\nx     100  met")
    }

    @Test func aReportSaysWhetherTheMachineWasQuiet() {
        let quiet = MachineNoise(others: 0.01, stolen: 0)
        #expect(
            ReportTable.quietness([quiet, quiet])
                == "The machine was quiet in each of 2 measurements: others took 1.0 % of the processors, at most "
                + "1.0 %; the hypervisor 0.0 %, at most 0.0 %.")
        let loud = ReportTable.quietness(
            [quiet, MachineNoise(others: 0.2, stolen: 0), MachineNoise(others: 0, stolen: 0.3)])
        #expect(loud.hasPrefix("The machine was not quiet in 2 of 3 measurements: others took 1.0 %"))
    }

    @Test func whatNeitherTheRunNorTheHypervisorTookIsTheWorkOfOthers() {
        let start = MachineNoise.Clock(busy: 10, stolen: 1, all: 100, ours: 5)
        let end = MachineNoise.Clock(busy: 14, stolen: 1.5, all: 110, ours: 8)
        #expect(end.noise(since: start) == MachineNoise(others: 0.1, stolen: 0.05))
        // Times are counted in ticks, so a run may seem to have taken more than there was.
        let early = MachineNoise.Clock(busy: 12, stolen: 1, all: 110, ours: 8)
        #expect(early.noise(since: start).others == 0)
    }

    @Test func theMachineCountsItsProcessorTime() {
        let start = MachineNoise.Clock(postmaster: 0)
        var sum = 0
        let end = ContinuousClock.now + .milliseconds(200)
        while ContinuousClock.now < end { sum &+= 1 }
        let noise = MachineNoise.Clock(postmaster: 0).noise(since: start)
        #expect(sum > 0 && (0...1).contains(noise.others) && (0...1).contains(noise.stolen))
    }
}
