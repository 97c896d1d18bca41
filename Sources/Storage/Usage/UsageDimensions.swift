import Postgres

/// The small numbers that stand for model, provider, status and plan in the cells.
enum UsageDimensions {
    /// Facts `f` to their dimension `d`, NULL where it has no number yet.
    static let join: Query = """
        LEFT JOIN metering.usage_dimensions d
            ON d.model = f.model AND d.status = f.status
            AND d.provider IS NOT DISTINCT FROM f.provider AND d.plan IS NOT DISTINCT FROM f.plan
        """

    /// Gives a number to what is new in `facts`.
    static func insertMissing(in facts: Query, _ connection: Connection) throws {
        try connection.execute(
            """
            INSERT INTO metering.usage_dimensions (model, provider, status, plan)
            SELECT f.model, f.provider, f.status, f.plan FROM \(facts) f
            EXCEPT
            SELECT d.model, d.provider, d.status, d.plan FROM metering.usage_dimensions d
            ON CONFLICT DO NOTHING
            """)
    }
}
