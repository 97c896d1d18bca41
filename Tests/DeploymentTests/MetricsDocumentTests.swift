import Foundation
import TestSupport
import Testing

/// `docs/metrics.md`, the alerts of Prometheus and the source agree about metrics. `DocumentExampleTests` compares what
/// running services emit.
@Suite(.timeLimit(.minutes(30))) struct MetricsDocumentTests {
    @Test func thePageListsEveryMetricOfTheSource() throws {
        #expect(try DocumentedMetric.all().mapValues(\.type) == Self.metricsOfTheSource())
    }

    @Test func thePageListsEveryAlertAndAlertsUseDocumentedMetrics() throws {
        let alerts = try String(
            contentsOf: Checkout.root.appending(path: "integrations/prometheus/alerts.yml"), encoding: .utf8)
        let names = alerts.matches(of: /- alert: (\w+)/).map { String($0.1) }
        let listed = try MarkdownPage("docs/metrics.md").rows(of: "Alerts")
            .compactMap { $0.first?.firstMatch(of: /`(\w+)`/).map { String($0.1) } }
        #expect(!names.isEmpty && listed == names)

        let metrics = try DocumentedMetric.all()
        let expressions = alerts.split(separator: "\n").filter { !$0.hasPrefix("#") }.joined(separator: "\n")
        let used = expressions.matches(of: /\b[a-z]+(?:_[a-z]+)+(?=[\[{ )\n])(?:\{([^}]*)\})?/)
        var count = 0
        for use in used {
            let name = String(use.output.0.prefix { $0 != "{" })
            if ["histogram_quantile"].contains(name) { continue }
            count += 1
            let base = name.replacing(/_(bucket|sum|count)$/, with: "")
            guard let metric = metrics[name] ?? metrics[base] else {
                Issue.record("alerts.yml uses \(name), which docs/metrics.md does not list")
                continue
            }
            let labels = (use.output.1 ?? "").matches(of: /(\w+)(?:=~|!~|!=|=)"/).map { String($0.1) }
            #expect(Set(labels).isSubset(of: metric.labels), "\(name) has no such label: \(labels)")
        }
        #expect(count >= names.count - 1)
    }

    /// The jobs that the page lists are those of the code.
    @Test func labelValuesAreThoseOfTheSource() throws {
        let source = try Self.sources().joined(separator: "\n")
        let page = try MarkdownPage("docs/metrics.md")
        let jobs = page.rows(of: "Metrics").first { $0[0].contains("{work}") || $0[0].contains("{job}") }
        let names = (jobs?[2] ?? "").matches(of: /`(\w+)`/).map { String($0.1) }
        #expect(names.count > 5)
        for name in names where !source.contains("(\"\(name)\", ") { Issue.record("there is no job \(name)") }
    }

    /// The names in the source with the type that Prometheus is given.
    private static func metricsOfTheSource() throws -> [String: String] {
        let types = ["Counter": "counter", "Gauge": "gauge", "Timer": "histogram", "Recorder": "histogram"]
        var metrics = ["metrics_refused_series_total": "counter"]
        for text in try sources() {
            for match in text.matches(of: /(?:^|\W)(Counter|Gauge|Timer|Recorder)\(\s*label: "(\w+)"/) {
                metrics[String(match.2)] = types[String(match.1)]
            }
        }
        return metrics
    }

    private static func sources() throws -> [String] {
        let root = Checkout.root.appending(path: "Sources").path()
        return try FileManager.default.subpathsOfDirectory(atPath: root)
            .filter { $0.hasSuffix(".swift") }
            .map { try String(contentsOfFile: "\(root)/\($0)", encoding: .utf8) }
    }
}

/// A metric as `docs/metrics.md` has it.
struct DocumentedMetric {
    let type: String
    let labels: Set<String>

    static func all() throws -> [String: DocumentedMetric] {
        var metrics: [String: DocumentedMetric] = [:]
        for row in try MarkdownPage("docs/metrics.md").rows(of: "Metrics") {
            guard let match = row[0].wholeMatch(of: /`(\w+)(?:\{([\w,]+)\})?`/) else {
                Issue.record("no metric: \(row[0])")
                continue
            }
            let labels = (match.2 ?? "").split(separator: ",").map(String.init)
            metrics[String(match.1)] = DocumentedMetric(type: row[1], labels: Set(labels))
        }
        return metrics
    }

    /// Compares what a service emits, in Prometheus' text format, with the page.
    static func compare(emitted text: String, of service: String) throws {
        let metrics = try all()
        var types: [String: String] = [:]
        for match in text.matches(of: /(?m)^# TYPE (\w+) (\w+)$/) { types[String(match.1)] = String(match.2) }
        #expect(types.count > 5, "\(service): \(text.prefix(400))")
        for (name, type) in types { #expect(metrics[name]?.type == type, "\(service): \(name) is a \(type)") }
        for match in text.matches(of: /(?m)^(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+$/) {
            let name =
                types[String(match.1)] == nil
                ? String(match.output.0.prefix { $0 != "{" && $0 != " " }) : String(match.1)
            let labels = Set((match.2 ?? "").matches(of: /(\w+)="/).map { String($0.1) }).subtracting(["le"])
            #expect(metrics[name].map { $0.labels == labels } == true, "\(service): \(match.output.0)")
        }
    }
}
