internal import CoreMetrics
internal import Synchronization

/// How often values fell below each of some bounds; a timer's values are seconds.
final class HistogramSeries: PrometheusSeries, RecorderHandler, TimerHandler {
    private struct State {
        var counts: [UInt64]
        var sum = 0.0
    }

    private let bounds: [Double]
    private let state: Mutex<State>

    /// - Parameter bounds: Upper, inclusive ends of the buckets, ascending; a last one without end is implied.
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
