import Analytics
import Domain
import HTTPSupport
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

    /// The cost that is known, in USD, for comparisons.
    static func dollars(_ sums: UsageTotals) -> Double { Double(sums.pricedCost.picodollars) / 1e12 }

    /// The growth from `before` to `now` as a ratio of three decimals; `nil` where there was nothing before.
    static func growth(_ now: Double, _ before: Double) -> Double? {
        before > 0 ? ((now - before) / before * 1_000).rounded() / 1_000 : nil
    }

    private static func json(_ ratio: Double?) -> JSON { ratio.map { .number($0.jsonLiteral) } ?? .null }

    /// A series by model, as rows of a table: the models, and for each bucket the cost of each and the usage of all.
    static func days(_ series: UsageSeries) -> JSON {
        let days = series.buckets.enumerated().map { index, bucket in
            let all = Usage(series.lines.reduce(UsageTotals()) { $0 + $1.sums[index] })
            return Usage.json.json(all).merging([
                "start": .string(bucket.start.rfc3339),
                "models": .array(series.lines.map { Usage.json.json(Usage($0.sums[index])) }),
            ])
        }
        return [
            "models": .array(
                series.lines.map { ["name": $0.key.json, "is_others": .bool($0.isOthers)] }),
            "days": .array(days), "is_used": .bool(!series.lines.isEmpty),
        ]
    }
}
