import Bootstrap
import CoreMetrics
import Testing

@Suite(.timeLimit(.minutes(30))) struct PrometheusTests {
    private func rendered(_ registry: PrometheusRegistry = PrometheusRegistry(), _ use: (PrometheusRegistry) -> Void)
        -> String
    {
        use(registry)
        return registry.render()
    }

    @Test func countersAndGaugesAreOneLineForEachSetOfLabels() {
        let text = rendered { registry in
            let stored = Counter(label: "ingest_events_total", dimensions: [("verdict", "stored")], factory: registry)
            stored.increment(by: 2)
            Counter(label: "ingest_events_total", dimensions: [("verdict", "stored")], factory: registry).increment()
            Counter(label: "ingest_events_total", dimensions: [("verdict", "duplicate")], factory: registry).increment()
            Gauge(label: "queue.depth", factory: registry).record(7)
            Gauge(label: "queue.depth", factory: registry).record(2.5)
            let meter = Meter(label: "pool_leases", factory: registry)
            meter.increment(by: 3)
            meter.decrement(by: 1)
        }
        #expect(
            text == """
                # TYPE ingest_events_total counter
                ingest_events_total{verdict="duplicate"} 1
                ingest_events_total{verdict="stored"} 3
                # TYPE pool_leases gauge
                pool_leases 2
                # TYPE queue_depth gauge
                queue_depth 2.5
                # TYPE metrics_refused_series_total counter
                metrics_refused_series_total 0

                """)
    }

    @Test func aTimerIsACumulativeHistogramOfSeconds() {
        let text = rendered { registry in
            let timer = Timer(label: "commit_seconds", dimensions: [("lane", "main")], factory: registry)
            timer.recordNanoseconds(1_000_000)
            timer.recordNanoseconds(3_000_000)
            timer.recordNanoseconds(60_000_000_000)
        }
        #expect(text.contains("# TYPE commit_seconds histogram\n"))
        #expect(text.contains("commit_seconds_bucket{lane=\"main\",le=\"0.001\"} 1\n"))
        #expect(text.contains("commit_seconds_bucket{lane=\"main\",le=\"0.0025\"} 1\n"))
        #expect(text.contains("commit_seconds_bucket{lane=\"main\",le=\"0.005\"} 2\n"))
        #expect(text.contains("commit_seconds_bucket{lane=\"main\",le=\"30\"} 2\n"))
        #expect(text.contains("commit_seconds_bucket{lane=\"main\",le=\"+Inf\"} 3\n"))
        #expect(text.contains("commit_seconds_sum{lane=\"main\"} 60.004\n"))
        #expect(text.contains("commit_seconds_count{lane=\"main\"} 3\n"))
    }

    @Test func aRecordersHistogramCountsAmounts() {
        let text = rendered { Recorder(label: "batch_events", factory: $0).record(50) }
        #expect(text.contains("batch_events_bucket{le=\"20\"} 0\nbatch_events_bucket{le=\"50\"} 1\n"))
        #expect(text.contains("batch_events_sum 50\nbatch_events_count 1\n"))
    }

    @Test func namesAreMadeValidAndLabelValuesEscaped() {
        let text = rendered { registry in
            Counter(label: "9 lives-total", dimensions: [("a.b", "x\"y\\z\nw"), ("A", "ü")], factory: registry)
                .increment()
        }
        #expect(text.contains("_9_lives_total{A=\"ü\",a_b=\"x\\\"y\\\\z\\nw\"} 1\n"))
    }

    @Test func beyondTheLimitNewSeriesAreRefusedAndCounted() {
        let text = rendered(PrometheusRegistry(seriesLimit: 2)) { registry in
            for route in ["a", "b", "c", "d", "a"] {
                Counter(label: "requests_total", dimensions: [("route", route)], factory: registry).increment()
            }
        }
        #expect(text.contains("requests_total{route=\"a\"} 2\n"))
        #expect(!text.contains("route=\"c\""))
        #expect(text.contains("metrics_refused_series_total 2\n"))
    }

    @Test func oneNameIsOneKindOfMetric() {
        let text = rendered { registry in
            Counter(label: "size", factory: registry).increment()
            Gauge(label: "size", factory: registry).record(9)
        }
        #expect(text.contains("# TYPE size counter\nsize 1\n"))
        #expect(text.contains("metrics_refused_series_total 1\n"))
    }

    @Test func concurrentCountingLosesNothing() async {
        let registry = PrometheusRegistry()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<1000 { Counter(label: "hits_total", factory: registry).increment() }
                }
            }
        }
        #expect(registry.render().contains("hits_total 8000\n"))
    }
}
