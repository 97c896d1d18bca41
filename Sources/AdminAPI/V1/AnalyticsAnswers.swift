import Analytics
import Domain
import HTTPSupport

/// What the reports answer, and the fields of it.
extension AnalyticsController {
    struct Meta: Sendable {
        let asOf: Timestamp
        /// Events of the range and user that are in quarantine.
        let quarantined: Int
        let unpricedRequests: Int64

        init(asOf: Timestamp, quarantined: Int = 0, unpricedRequests: Int64 = 0) {
            (self.asOf, self.quarantined, self.unpricedRequests) = (asOf, quarantined, unpricedRequests)
        }
    }

    struct Summary: Sendable {
        let current: UsageSummary.Period
        let compared: UsageSummary.Period?
        let meta: Meta
    }

    struct Timeseries: Sendable {
        let report: UsageSeries
        let meta: Meta
    }

    /// One bucket of one series, as a row.
    struct TimeseriesRow: Sendable {
        let bucket: UsageSeries.Bucket
        let line: UsageSeries.Line
        let value: Usage
    }

    /// One group of a breakdown, or all groups that are not listed.
    struct Group: Sendable {
        let key: String?
        let groups: Int
        let share: Double?
        let usage: Usage

        init(_ part: UsageBreakdown.Group) {
            (key, groups, share, usage) = (part.key, 1, part.share, Usage(part.sums, part.latency))
        }

        init(_ others: UsageBreakdown.Others) {
            (key, groups, share, usage) = (nil, others.groups, others.share, Usage(others.sums))
        }
    }

    struct Breakdown: Sendable {
        let report: UsageBreakdown
        let group: String
        let nextCursor: String?
        let meta: Meta
    }

    static let meta = JSONType<Meta>.object(
        "ReportMeta",
        [
            Field("as_of", .time, \.asOf), Field("complete_through", .time, \.asOf),
            Field("quarantined", .integer, example: 0, \.quarantined),
            Field("unpriced_requests", .integer, example: 0, \.unpricedRequests),
        ])

    static let range: [Field<ReportRange>] = [
        Field("from", .time, \.from), Field("to", .time, \.to),
        Field("timezone", .string, example: "Europe/Istanbul", \.zone.name),
    ]

    static let summary = JSONType<Summary>.object(
        "UsageSummary",
        range.map { $0.inside(\.current.range) } + [
            Field("current", Usage.json) { Usage($0.current) },
            Field("compared", .nullable(Usage.json)) { $0.compared.map { Usage($0) } }, Field("meta", meta, \.meta),
        ])

    /// The row of a summary.
    static let period = JSONType<UsageSummary.Period>.object(
        nil, range.map { $0.inside(\.range) } + Usage.fields.map { $0.inside { Usage($0) } })

    static let bucket: [Field<UsageSeries.Bucket>] = [
        Field("start", .time, \.start), Field("end", .time, \.end),
    ]

    static let line: [Field<UsageSeries.Line>] = [
        Field("key", .nullable(.string), example: "gpt-4o", \.key), Field("is_others", .boolean, \.isOthers),
    ]

    static let timeseries = JSONType<Timeseries>.object(
        "UsageTimeseries",
        range.map { $0.inside(\.report.range) } + [
            Field("granularity", .string, example: "day", \.report.granularity.rawValue),
            Field("buckets", .list(.object("TimeBucket", bucket)), \.report.buckets),
            Field("series", .list(.object("UsageSeries", line + [Field("values", .list(Usage.json), \.values)]))) {
                $0.report.lines
            }, Field("meta", meta, \.meta),
        ])

    static let timeseriesRow = JSONType<TimeseriesRow>.object(
        nil,
        bucket.map { $0.inside(\.bucket) } + line.map { $0.inside(\.line) } + Usage.fields.map { $0.inside(\.value) })

    static let group = JSONType<Group>.object(
        "UsageGroup",
        [
            Field("key", .nullable(.string), example: "gpt-4o", \.key), Field("groups", .integer, example: 1, \.groups),
            Field("share", .nullable(.ratio), example: .number("0.75"), \.share),
        ] + Usage.fields.map { $0.inside(\.usage) })

    static let breakdownJSON = JSONType<Breakdown>.object(
        "UsageBreakdown",
        range.map { $0.inside(\.report.range) } + [
            Field("group_by", .string, example: "model", \.group),
            Field("data", .list(group)) { $0.report.groups.map { Group($0) } },
            Field("others", .nullable(group)) { $0.report.others.map { Group($0) } },
            Field("total", Usage.json) { Usage($0.report.total) },
            Field("next_cursor", .nullable(.string), \.nextCursor), Field("meta", meta, \.meta),
        ])
}

/// What requests used, and how long they took. Money is exact text, and null where no price is known.
struct Usage: Sendable {
    let sums: UsageTotals
    let latency: UsageLatency

    init(_ sums: UsageTotals, _ latency: UsageLatency = UsageLatency()) {
        self.sums = sums
        self.latency = latency
    }

    fileprivate init(_ period: UsageSummary.Period) {
        self.init(period.sums, period.latency)
    }

    /// Always with its members, so that all rows have the same columns.
    private static let percentiles = JSONType<UsageLatency.Percentiles?>.object(
        "Percentiles",
        [
            Field("p50", .nullable(.milliseconds), example: 850) { $0?.p50 },
            Field("p95", .nullable(.milliseconds), example: 2_400) { $0?.p95 },
            Field("p99", .nullable(.milliseconds), example: 4_100) { $0?.p99 },
        ])

    static let fields: [Field<Usage>] = [
        Field("requests", .integer, example: 120, \.sums.requests),
        Field("errors", .integer, example: 3, \.sums.errors),
        Field("rate_limited", .integer, example: 1, \.sums.rateLimited),
        Field("unpriced_requests", .integer, example: 0, \.sums.unpriced),
        Field("input_tokens", .integer, example: 54_000, \.sums.inputTokens),
        Field("output_tokens", .integer, example: 12_000, \.sums.outputTokens),
        Field("cached_tokens", .integer, example: 8_000, \.sums.cachedTokens),
        Field("reasoning_tokens", .integer, example: 0, \.sums.reasoningTokens),
        Field("total_tokens", .integer, example: 66_000, \.sums.tokens),
        Field("cost", .nullable(.money), \.sums.cost), Field("ledger_cost", .money, \.sums.laravelCost),
        Field("error_rate", .nullable(.ratio), example: .number("0.025"), \.sums.errorRate),
        Field("average_duration_ms", .nullable(.milliseconds), example: .number("1020.5"), \.sums.averageDuration),
        Field("duration_ms", percentiles, \.latency.duration),
        Field("time_to_first_token_ms", percentiles, \.latency.firstToken),
    ]

    static let json = JSONType<Usage>.object("Usage", fields)
}

extension UsageSeries.Line {
    /// The usage of each bucket.
    var values: [Usage] {
        sums.indices.map { Usage(sums[$0], latencies.indices.contains($0) ? latencies[$0] : UsageLatency()) }
    }
}

extension JSONType<Double> {
    /// At most two decimals: a percentile is exact to 2 %, and a duration to a millisecond.
    fileprivate static var milliseconds: JSONType {
        JSONType(Schema.number) { .number((($0 * 100).rounded() / 100).jsonLiteral) }
    }

    /// At most six decimals.
    fileprivate static var ratio: JSONType {
        JSONType(Schema.number) { .number((($0 * 1_000_000).rounded() / 1_000_000).jsonLiteral) }
    }
}
