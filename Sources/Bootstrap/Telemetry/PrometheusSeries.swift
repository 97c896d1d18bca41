internal import CoreMetrics
internal import Synchronization

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

/// A number that goes up and down; a recorder that does not aggregate shows its last value so.
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
