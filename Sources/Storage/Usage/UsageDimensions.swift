import Postgres

/// The small numbers that stand for model, provider, status and plan in the cells, and for whether they were
/// self-reported.
enum UsageDimensions {
    /// Facts `f` to their dimension `d`, NULL where it has no number yet.
    static let join: Query = """
        LEFT JOIN metering.usage_dimensions d
            ON d.model = f.model AND d.status = f.status
            AND d.provider IS NOT DISTINCT FROM f.provider AND d.plan IS NOT DISTINCT FROM f.plan
            AND d.is_self_reported = f.is_self_reported
        """

    /// Whether the column `dimension` is of usage that counts for all users together: self-reported usage is its user's
    /// alone.
    static func countsForAll(_ dimension: Query) -> Query {
        """
        \(dimension) <> ALL(ARRAY(
            SELECT s.dimension FROM metering.usage_dimensions s WHERE s.is_self_reported))
        """
    }

    /// Whether the column `dimension` is of events: rows of `api_logs` without an event have no plan.
    static func areOfEvents(_ dimension: Query) -> Query {
        """
        \(dimension) <> ALL(ARRAY(
            SELECT s.dimension FROM metering.usage_dimensions s WHERE s.plan IS NULL))
        """
    }

    /// Gives a number to what is new in `facts`.
    static func insertMissing(in facts: Query, _ connection: Connection) throws {
        try connection.execute(
            """
            INSERT INTO metering.usage_dimensions (model, provider, status, plan, is_self_reported)
            SELECT f.model, f.provider, f.status, f.plan, f.is_self_reported FROM \(facts) f
            EXCEPT
            SELECT d.model, d.provider, d.status, d.plan, d.is_self_reported FROM metering.usage_dimensions d
            ON CONFLICT DO NOTHING
            """)
    }
}
