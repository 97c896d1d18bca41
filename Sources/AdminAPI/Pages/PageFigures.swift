import Analytics
import Domain
import HTTPSupport
import Postgres
import Storage

/// Reports as the templates of several pages show them.
enum PageFigures {
    /// A summary as `/api/v1/analytics/summary` writes it, and how much more was used than in the range before.
    static func summary(_ report: UsageSummary, asOf: Timestamp) -> JSON {
        let (now, before) = (report.current.sums, report.previous?.sums ?? UsageTotals())
        let summary = AnalyticsController.summary.json(
            .init(current: report.current, compared: report.previous, meta: .init(asOf: asOf)))
        return summary.merging([
            "cost_change": json(growth(dollars(now), dollars(before))),
            "requests_change": json(growth(Double(now.requests), Double(before.requests))),
        ])
    }

    /// Through when figures are complete, where that is not the moment of which they are; else null.
    ///
    /// - Throws: ``PostgresError``.
    static func completeThrough(_ connection: Connection) throws -> JSON {
        try IngestStatus.missingSince(connection).json
    }

    /// The cost that is known, in USD, for comparisons.
    static func dollars(_ sums: UsageTotals) -> Double { Double(sums.pricedCost.picodollars) / 1e12 }

    /// The growth from `before` to `now` as a ratio of three decimals; `nil` where there was nothing before.
    static func growth(_ now: Double, _ before: Double) -> Double? {
        before > 0 ? ((now - before) / before * 1_000).rounded() / 1_000 : nil
    }

    private static func json(_ ratio: Double?) -> JSON { ratio.map { .number($0.jsonLiteral) } ?? .null }

    /// The days of a chart: the models, and for each day the cost of each of them and the usage of all.
    ///
    /// - Parameters:
    ///   - models: The series by model.
    ///   - all: The series of all models with latencies, over the same days. Without it no day has a latency.
    /// - Returns: `models`, `days`, and `is_used`: whether any model was called.
    static func days(_ models: UsageSeries, all: UsageSeries? = nil) -> JSON {
        let usages = all?.lines.first?.values
        let days = models.buckets.enumerated().map { index, bucket in
            let sums = models.lines.reduce(UsageTotals()) { $0 + $1.sums[index] }
            return Usage.json.json(usages?[index] ?? Usage(sums)).merging([
                "start": .string(bucket.start.rfc3339),
                "succeeded": .integer(max(0, sums.requests - sums.errors - sums.rateLimited)),
                "models": .array(models.lines.map { Usage.json.json(Usage($0.sums[index])) }),
            ])
        }
        return [
            "models": .array(models.lines.map { ["model": $0.key.json, "is_others": .bool($0.isOthers)] }),
            "days": .array(days), "is_used": .bool(!models.lines.isEmpty),
        ]
    }
}
