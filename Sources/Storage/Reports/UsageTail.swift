import Domain
import Postgres

/// The rows behind the cursor that are in a range and scope.
struct UsageTail {
    private let scope: UsageScope
    private let (start, end): (Timestamp, Timestamp)
    private let snapshot: UsageSnapshot

    init(_ scope: UsageScope, _ start: Timestamp, _ end: Timestamp, _ snapshot: UsageSnapshot) {
        self.scope = scope
        (self.start, self.end) = (start, end)
        self.snapshot = snapshot
    }

    /// The facts.
    var query: Query {
        """
        SELECT f.* FROM (
            SELECT * FROM \(UsageKind.events.facts(after: snapshot.cursor.events, through: .max)) f
            WHERE \(scope.ofFacts("f"))
            \(snapshot.hasLogsBehind ? logs : "")
        ) f
        WHERE f.occurred_at >= \(start) AND f.occurred_at < \(end) AND \(scope.ofDimension("f"))
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
