package import CoreMetrics
internal import Synchronization

/// Every metric of the process: the back end of swift-metrics, and the text that Prometheus fetches.
///
/// Memory is bounded. A metric keeps at most `seriesLimit` sets of labels; `metrics_refused_series_total` counts those
/// over the limit.
package final class PrometheusRegistry: MetricsFactory {
    private enum Kind: String {
        case counter, gauge, histogram
    }

    private struct Family {
        let kind: Kind
        var series: [String: any PrometheusSeries] = [:]
    }

    private struct State {
        var families: [String: Family] = [:]
        var refused = 0
    }

    /// From 1 ms, the time of a commit, to the 30 s after which clients give up.
    private static let secondsBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
    /// From one event to a body of 64 MB.
    private static let amountBounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6, 1e7, 1e8]

    private let seriesLimit: Int
    private let state = Mutex(State())

    /// A registry whose metrics keep at most `seriesLimit` sets of labels each.
    package init(seriesLimit: Int = 1000) {
        self.seriesLimit = seriesLimit
    }

    /// All metrics in the text format 0.0.4, sorted by name.
    package func render() -> String {
        let state = state.withLock { $0 }
        var text = ""
        for (name, family) in state.families.sorted(by: { $0.key < $1.key }) {
            text += "# TYPE \(name) \(family.kind.rawValue)\n"
            for (labels, series) in family.series.sorted(by: { $0.key < $1.key }) {
                text += series.render(name, labels: labels)
            }
        }
        text += "# TYPE metrics_refused_series_total counter\n"
        return text + PrometheusText.sample("metrics_refused_series_total", labels: "", value: Double(state.refused))
    }

    /// The counter `label` with these labels.
    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(label, dimensions, .counter, CounterSeries())
    }

    /// The counter `label` of fractional amounts with these labels.
    package func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        series(label, dimensions, .counter, CounterSeries())
    }

    /// The gauge `label` with these labels.
    package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(label, dimensions, .gauge, GaugeSeries())
    }

    /// The histogram `label` with these labels, or a gauge of the last value.
    package func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        aggregate
            ? series(label, dimensions, .histogram, HistogramSeries(bounds: Self.amountBounds))
            : series(label, dimensions, .gauge, GaugeSeries())
    }

    /// The histogram `label` of seconds with these labels.
    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(label, dimensions, .histogram, HistogramSeries(bounds: Self.secondsBounds))
    }

    // A series outlives its handle, because a counter must not start again at zero.
    package func destroyCounter(_ handler: any CounterHandler) {}
    package func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    package func destroyMeter(_ handler: any MeterHandler) {}
    package func destroyRecorder(_ handler: any RecorderHandler) {}
    package func destroyTimer(_ handler: any TimerHandler) {}

    /// The series of `label` and `dimensions`, or `new`. A new one is shown unless the metric has another kind or too
    /// many series.
    private func series<Series: PrometheusSeries>(
        _ label: String, _ dimensions: [(String, String)], _ kind: Kind, _ new: @autoclosure () -> Series
    ) -> Series {
        let name = PrometheusText.name(label)
        let labels = PrometheusText.labels(dimensions)
        return state.withLock { state in
            if let known = state.families[name]?.series[labels] as? Series { return known }
            let new = new()
            let family = state.families[name] ?? Family(kind: kind)
            guard family.kind == kind, family.series.count < seriesLimit else {
                state.refused += 1
                return new
            }
            state.families[name, default: family].series[labels] = new
            return new
        }
    }
}

/// The values of one metric under one set of labels.
protocol PrometheusSeries: AnyObject, Sendable {
    /// The series' sample lines under the metric's `name`.
    func render(_ name: String, labels: String) -> String
}

/// A number that only grows.
final class CounterSeries: PrometheusSeries, CounterHandler, FloatingPointCounterHandler {
    private let value = Mutex(0.0)

    func increment(by amount: Int64) { increment(by: Double(amount)) }
    func increment(by amount: Double) { value.withLock { $0 += max(amount, 0) } }
    func reset() { value.withLock { $0 = 0 } }

    func render(_ name: String, labels: String) -> String {
        PrometheusText.sample(name, labels: labels, value: value.withLock { $0 })
    }
}

/// A number that goes up and down, or the last value of a recorder that does not aggregate.
final class GaugeSeries: PrometheusSeries, MeterHandler, RecorderHandler {
    private let value = Mutex(0.0)

    func set(_ new: Int64) { set(Double(new)) }
    func set(_ new: Double) { value.withLock { $0 = new } }
    func increment(by amount: Double) { value.withLock { $0 += amount } }
    func decrement(by amount: Double) { increment(by: -amount) }
    func record(_ new: Int64) { set(new) }
    func record(_ new: Double) { set(new) }

    func render(_ name: String, labels: String) -> String {
        PrometheusText.sample(name, labels: labels, value: value.withLock { $0 })
    }
}

/// Counts of values in buckets. The values of a timer are seconds.
final class HistogramSeries: PrometheusSeries, RecorderHandler, TimerHandler {
    private struct State {
        var counts: [UInt64]
        var sum = 0.0
    }

    private let bounds: [Double]
    private let state: Mutex<State>

    /// - Parameter bounds: The inclusive upper ends of the buckets, ascending. A last bucket without end is added.
    init(bounds: [Double]) {
        self.bounds = bounds
        state = Mutex(State(counts: Array(repeating: 0, count: bounds.count + 1)))
    }

    func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
    func record(_ value: Int64) { record(Double(value)) }

    func record(_ value: Double) {
        let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock {
            $0.counts[bucket] += 1
            $0.sum += value
        }
    }

    func render(_ name: String, labels: String) -> String {
        let state = state.withLock { $0 }
        var text = ""
        var total: UInt64 = 0
        for (count, bound) in zip(state.counts, bounds + [.infinity]) {
            total += count
            text += PrometheusText.sample(
                "\(name)_bucket", labels: labels, extra: "le=\"\(PrometheusText.number(bound))\"", value: Double(total))
        }
        text += PrometheusText.sample("\(name)_sum", labels: labels, value: state.sum)
        return text + PrometheusText.sample("\(name)_count", labels: labels, value: Double(total))
    }
}

/// Pieces of the Prometheus text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
enum PrometheusText {
    /// `label` as a metric or label name: letters, digits and `_`, not beginning with a digit.
    static func name(_ label: String) -> String {
        let name = String(label.unicodeScalars.map { isNameScalar($0) ? Character($0) : "_" })
        return name.first.map { $0.isNumber } ?? true ? "_" + name : name
    }

    /// `a="x",b="y"`, sorted by name.
    static func labels(_ dimensions: [(String, String)]) -> String {
        dimensions.map { (name($0.0), $0.1) }.sorted { $0.0 < $1.0 }
            .map { "\($0.0)=\"\(escaped($0.1))\"" }.joined(separator: ",")
    }

    /// One sample line; `extra` is one more label, already rendered.
    static func sample(_ name: String, labels: String, extra: String = "", value: Double) -> String {
        let all = [labels, extra].filter { !$0.isEmpty }.joined(separator: ",")
        return "\(name)\(all.isEmpty ? "" : "{\(all)}") \(number(value))\n"
    }

    /// A value as Go's ParseFloat reads it; whole numbers without a fraction.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return Int64(exactly: value).map(String.init) ?? String(value)
    }

    private static func escaped(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }

    private static func isNameScalar(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "A"..."Z", "0"..."9", "_": true
        default: false
        }
    }
}
