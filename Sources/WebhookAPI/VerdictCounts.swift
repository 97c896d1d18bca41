import CoreMetrics
import Domain

/// How many events of a body got which verdict, for its answer, its log line and the metrics.
struct VerdictCounts: Hashable {
    private(set) var stored = 0
    private(set) var duplicates = 0
    private(set) var conflicts = 0
    private(set) var quarantined = 0

    init(_ verdicts: [Verdict]) {
        for verdict in verdicts {
            switch verdict {
            case .stored: stored += 1
            case .duplicate: duplicates += 1
            case .conflict: conflicts += 1
            case .quarantined: quarantined += 1
            }
        }
    }

    /// Name and number of each, as the access log shows them.
    var all: KeyValuePairs<String, Int> {
        ["stored": stored, "duplicates": duplicates, "conflicts": conflicts, "quarantined": quarantined]
    }

    private static let counters = VerdictCounts([]).all.map { name, _ in
        Counter(label: "webhook_events_total", dimensions: [("verdict", name)])
    }

    /// Adds to `webhook_events_total{verdict}` and `webhook_quarantined_total{reason}`.
    func record(_ verdicts: [Verdict]) {
        for (counter, (_, count)) in zip(Self.counters, all) where count > 0 { counter.increment(by: count) }
        for case .quarantined(let reason) in verdicts {
            Counter(label: "webhook_quarantined_total", dimensions: [("reason", reason.rawValue)]).increment()
        }
    }
}

extension Verdict {
    /// The word of the answer's `results`.
    var name: String {
        switch self {
        case .stored: "stored"
        case .duplicate: "duplicate"
        case .conflict: "conflict"
        case .quarantined: "quarantined"
        }
    }
}
