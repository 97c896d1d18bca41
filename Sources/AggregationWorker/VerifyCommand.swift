import Analytics
import ArgumentParser
import Bootstrap
import Foundation
import Logging
import Postgres
import Storage

/// `aggregation-worker verify`
struct VerifyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Proves that logs, rollups and counters are equal; exit code 2 where they are not.",
        discussion: """
            Adds up everything again and compares per user, bucket, model, provider, status and plan: 15-minute \
            rollups with logs, those of all users with the users', days with 15 minutes, runs of days with days, \
            counters with logs. Of sealed history only the rollups are compared with each other. Changes nothing and \
            blocks nothing.
            """)

    @OptionGroup var options: RangeOptions

    @Flag(help: "One JSON object instead of lines.")
    var json = false

    func run() async throws {
        try await WorkerContext.run { context in
            let report = try await context.pool.withConnection { connection in
                try RollupVerification.verify(options.range, connection) { part in
                    context.logger.info("verifying", metadata: ["part": "\(part)"])
                }
            }
            if json {
                try report.printJSON()
            } else {
                report.printLines()
            }
            if report.count > 0 { throw ExitCode(2) }
        }
    }
}

extension RollupVerification.Report {
    /// A line for each finding, and how many there are.
    func printLines() {
        for finding in findings {
            let dimension = finding.dimension.isEmpty ? "" : " (\(finding.dimension))"
            let user = finding.user == 0 ? "all users" : "user \(finding.user)"
            print("\(finding.level) \(user) \(finding.bucket)\(dimension): \(finding.difference)")
        }
        print(count == 0 ? "all is equal" : "\(count) differ")
    }

    fileprivate func printJSON() throws {
        let object: [String: Any] = [
            "differences": count,
            "findings": findings.map { finding in
                [
                    "level": finding.level, "user_id": finding.user, "bucket": finding.bucket,
                    "dimension": finding.dimension, "difference": finding.difference,
                ] as [String: Any]
            },
        ]
        let data = try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
        Terminal.print(json: String(decoding: data, as: UTF8.self))
    }
}
