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
}
