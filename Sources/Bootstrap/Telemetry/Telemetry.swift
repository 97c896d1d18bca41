internal import CoreMetrics
internal import Glibc
package import Logging

/// Logs and metrics of one program, set up once, before anything else.
package enum Telemetry {
    /// Sends logs of the process from `level` on to standard error, and metrics to the returned registry.
    package static func bootstrap(label: String, level: Logger.Level) -> (logger: Logger, metrics: PrometheusRegistry) {
        LoggingSystem.bootstrap { _ in
            LineLogHandler(label: label, level: level) { line in
                var line = line
                line.withUTF8 { writeToStandardError(UnsafeRawBufferPointer($0)) }
            }
        }
        let metrics = PrometheusRegistry()
        MetricsSystem.bootstrap(metrics)
        return (Logger(label: label), metrics)
    }

    /// One `write` for whole lines, so that two programs can share a terminal or a pipe.
    package static func writeToStandardError(_ lines: UnsafeRawBufferPointer) {
        _ = Glibc.write(STDERR_FILENO, lines.baseAddress, lines.count)
    }
}
