package import Bootstrap
internal import HTTPTypes
package import Hummingbird

/// `GET /metrics`: every metric of the process in Prometheus' text format.
package struct MetricsRoute: Sendable {
    private let metrics: PrometheusRegistry

    package init(_ metrics: PrometheusRegistry) {
        self.metrics = metrics
    }

    package func add(to router: Router<AppRequestContext>) {
        router.get("/metrics") { [metrics] _, _ in
            Response(
                status: .ok, headers: [.contentType: "text/plain; version=0.0.4"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: metrics.render())))
        }
    }
}
