package import CoreMetrics
internal import Synchronization

/// Every metric of the process, as swift-metrics' back end and as the text that Prometheus fetches.
///
/// Memory is bounded: a metric keeps at most `seriesLimit` sets of labels, and what comes later is only counted in
/// `metrics_refused_series_total`.
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

    /// From 1 ms, a commit's time, to the half minute after which everybody has given up.
    private static let secondsBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
    /// From one event to a body of 64 MB.
    private static let amountBounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6, 1e7, 1e8]

    private let seriesLimit: Int
    private let state = Mutex(State())

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

    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(label, dimensions, .counter, CounterSeries())
    }

    package func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        series(label, dimensions, .counter, CounterSeries())
    }

    package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(label, dimensions, .gauge, GaugeSeries())
    }

    package func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        aggregate
            ? series(label, dimensions, .histogram, HistogramSeries(bounds: Self.amountBounds))
            : series(label, dimensions, .gauge, GaugeSeries())
    }

    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(label, dimensions, .histogram, HistogramSeries(bounds: Self.secondsBounds))
    }

    // A series outlives the handle through which it was counted: a counter that starts again at zero lies.
    package func destroyCounter(_ handler: any CounterHandler) {}
    package func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    package func destroyMeter(_ handler: any MeterHandler) {}
    package func destroyRecorder(_ handler: any RecorderHandler) {}
    package func destroyTimer(_ handler: any TimerHandler) {}

    /// The series that is known under `label` and `dimensions`, else `new`, which is shown from now on unless the metric
    /// is full or of another kind.
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
