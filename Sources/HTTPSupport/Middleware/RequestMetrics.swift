internal import CoreMetrics
internal import Synchronization

/// Counts and times requests: `http_requests_total{method,route,status}`, `http_request_duration_seconds{method,route}`.
///
/// The handles are kept, as making one costs more than the count; there are as many as routes, methods and status codes.
final class RequestMetrics: Sendable {
    private struct Key: Hashable {
        var method: String
        var route: String
        var status: Int
    }

    private let handles = Mutex<[Key: (counter: Counter, timer: Timer)]>([:])

    func record(method: String, route: String, status: Int, nanoseconds: Int64) {
        let (counter, timer) = handles.withLock { handles in
            let key = Key(method: method, route: route, status: status)
            if let known = handles[key] { return known }
            let labels = [("method", method), ("route", route)]
            let new = (
                counter: Counter(label: "http_requests_total", dimensions: labels + [("status", "\(status)")]),
                timer: Timer(label: "http_request_duration_seconds", dimensions: labels)
            )
            handles[key] = new
            return new
        }
        counter.increment()
        timer.recordNanoseconds(nanoseconds)
    }
}
