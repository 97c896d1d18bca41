import Domain
import Postgres

/// The rows behind the cursor that are in a range and scope.
struct UsageTail {
    private let scope: UsageScope
    /// Quarters of an hour since 1970.
    private let quarters: Range<Int>
    private let snapshot: UsageSnapshot

    /// The rows of `scope` in `quarters`.
    init(_ scope: UsageScope, _ quarters: Range<Int>, _ snapshot: UsageSnapshot) {
        self.scope = scope
        self.quarters = quarters
        self.snapshot = snapshot
    }

    /// The facts. No condition on the key, by which only some months would have to be opened: the planner, who does not know how
    /// short the tail is, would read these months by it.
    var query: Query {
        """
        SELECT f.* FROM (
            SELECT * FROM \(UsageKind.events.facts(after: snapshot.cursor.events, through: .max)) f
            WHERE \(scope.ofFacts("f"))
            \(snapshot.hasLogsBehind ? logs : "")
        ) f
        WHERE f.occurred_at >= \(ReportRange.start(of: quarters.lowerBound))
          AND f.occurred_at < \(ReportRange.start(of: quarters.upperBound)) AND \(scope.ofDimension("f"))
        """
    }

    /// OFFSET 0: the planner, who does not know how short the tail is, would read all of the user's rows instead.
    private var logs: Query {
        """
        UNION ALL
        SELECT * FROM (
            SELECT * FROM \(UsageKind.others.facts(after: snapshot.cursor.others, through: .max)) OFFSET 0
        ) f
        WHERE \(scope.ofFacts("f"))
        """
    }
}
