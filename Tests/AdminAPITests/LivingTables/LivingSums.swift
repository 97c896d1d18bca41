import Domain
import HTTPSupport

@testable import AdminAPI

/// Every measure of some facts, as the API writes it.
struct LivingSums: CustomStringConvertible {
    private let facts: [LivingModel.Fact]

    init(_ facts: [LivingModel.Fact]) {
        self.facts = facts
    }

    /// Whole numbers stop at 2^63-1.
    private func sum(_ count: KeyPath<LivingModel.Fact, Int64>) -> Int64 {
        Int64(clamping: facts.reduce(Int128(0)) { $0 + Int128($1[keyPath: count]) })
    }

    private func count(_ status: String) -> Int { facts.count { $0.status == status } }

    private func average(of sum: Int) -> Double? { facts.isEmpty ? nil : Double(sum) / Double(facts.count) }

    private var unpriced: Int { facts.count { $0.picodollars == nil } }

    private var whole: [(field: String, value: Int64)] {
        [
            ("requests", Int64(facts.count)), ("errors", Int64(count("error"))),
            ("rate_limited", Int64(count("rate_limited"))), ("unpriced_requests", Int64(unpriced)),
            ("input_tokens", sum(\.tokens)), ("output_tokens", sum(\.outputTokens)),
            ("cached_tokens", sum(\.cachedTokens)), ("reasoning_tokens", sum(\.reasoningTokens)),
            ("total_tokens", Int64(clamping: Int128(sum(\.tokens)) + Int128(sum(\.outputTokens)))),
        ]
    }

    /// USD; `nil` where no price is known.
    private var costs: [(field: String, value: Int128?)] {
        let isKnown = facts.isEmpty || unpriced < facts.count
        return [
            ("cost", isKnown ? facts.reduce(0) { $0 + ($1.picodollars ?? 0) } : nil),
            ("ledger_cost", facts.reduce(0) { $0 + $1.microdollars } * 1_000_000),
        ]
    }

    /// Values, and how far the answer's may be beside them.
    private var approximate: [(path: [String], value: Double?, tolerance: Double)] {
        [
            (["error_rate"], average(of: count("error")), 0.000_001),
            (["average_duration_ms"], average(of: facts.reduce(0) { $0 + Int($1.duration) }), 0.01),
        ] + percentiles("duration_ms", facts.map(\.duration))
            + percentiles("time_to_first_token_ms", facts.compactMap(\.firstToken))
    }

    /// Within 2 % of the fact that stands there, and rounded to two decimals.
    private func percentiles(
        _ field: String, _ values: [Int64]
    ) -> [(path: [String], value: Double?, tolerance: Double)] {
        let sorted = values.sorted()
        return [50, 95, 99].map { percent in
            let exact = sorted.isEmpty ? nil : Double(sorted[(sorted.count * percent + 99) / 100 - 1])
            return ([field, "p\(percent)"], exact, 0.02 * (exact ?? 0) + 0.01)
        }
    }

    /// What `json` says other than this; empty where it is right. The total of a breakdown has no percentiles.
    func differences(from json: JSON?, hasPercentiles: Bool = true) -> [String] {
        let counts = whole.filter { json?[$0.field]?.wholeNumber != $0.value }.map { "\($0.field) is \($0.value)" }
        let money = costs.filter { cost in
            json?[cost.field]?.text.flatMap { Money($0)?.picodollars } != cost.value
        }.map { "\($0.field) is \($0.value as Any) p$" }
        let rest = approximate.filter { field in
            let found = field.path.reduce(json) { $0?[$1] }?.scalarText.flatMap(Double.init)
            if field.path.count > 1, !hasPercentiles { return found != nil }
            guard let found, let value = field.value else { return (found == nil) != (field.value == nil) }
            return abs(found - value) > field.tolerance
        }.map { "\($0.path.joined(separator: ".")) is \($0.value as Any)" }
        return counts + money + rest
    }

    var description: String { whole.map { "\($0.field) \($0.value)" }.joined(separator: ", ") }
}
