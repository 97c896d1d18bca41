internal import CoreMetrics
internal import Glibc
package import Logging

/// Logs and metrics of one program, set up once, before anything else.
package enum Telemetry {
    /// Sends logs of the process from `level` on to standard error, and metrics to the returned registry.
    package static func bootstrap(label: String, level: Logger.Level) -> (logger: Logger, metrics: PrometheusRegistry) {
        LoggingSystem.bootstrap { _ in LineLogHandler(label: label, level: level, write: writeToStandardError) }
        let metrics = PrometheusRegistry()
        MetricsSystem.bootstrap(metrics)
        return (Logger(label: label), metrics)
    }

    /// One `write` for a whole line, so that two programs can share a terminal or a pipe.
    private static func writeToStandardError(_ line: String) {
        var line = line
        line.withUTF8 { bytes in
            _ = Glibc.write(STDERR_FILENO, bytes.baseAddress, bytes.count)
        }
    }
}
