package import Domain
import Postgres

/// Which rows of `api_logs` are meant; each condition narrows.
package struct LogFilter: Sendable, Hashable {
    /// Whose; all users' where it is `nil`.
    package var userID: Int64?
    /// One of these; an empty list means none.
    package var models: [String]?
    package var providers: [String]?
    package var statuses: [String]?
    /// Flags of ``UsageEvent``.
    package var flags: [String]?
    /// When the call was made: `[from, to)`. Rows without a time are outside of every range.
    package var from: Timestamp?
    package var to: Timestamp?
    /// USD, as a decimal literal.
    package var minimumCost: DecimalLiteral?
    /// Milliseconds.
    package var minimumDuration: Int64?
    /// A part of the error message, in any case.
    package var errorText: String?

    package init(userID: Int64? = nil) {
        self.userID = userID
    }

    /// The condition on a row `l`, only what is asked for.
    var condition: Query {
        let facts: Query = "metering.events e WHERE \(IDLine.isRowOfEvent)"
        let conditions: [Query?] = [
            userID.map { "l.user_id = \($0)" },
            models.map(Self.isModel),
            providers.map { "EXISTS (SELECT FROM \(facts) AND e.provider = ANY(\($0)::text[]))" },
            statuses.map { Self.isOne(of: $0, "l.status") },
            flags.map { "EXISTS (SELECT FROM \(facts) AND e.flags && \($0)::text[])" },
            from.map { "l.created_at >= (\($0) AT TIME ZONE 'UTC')" },
            to.map { "l.created_at < (\($0) AT TIME ZONE 'UTC')" },
            minimumCost.map { "\(LogRow.price) >= \($0.text)::numeric" },
            minimumDuration.map { "l.response_time_ms >= \($0)" },
            errorText.map { TextSearch.condition("l.error_message", has: $0) },
        ]
        return conditions.compactMap(\.self).reduce("true") { "\($0) AND \($1)" }
    }

    /// A log without a model is shown as one of the model `unknown`.
    private static func isModel(_ models: [String]) -> Query {
        let isOne = isOne(of: models, "l.model")
        return models.contains("unknown") ? "(\(isOne) OR l.model IS NULL)" : isOne
    }

    /// An index keeps its order under an equation, not under a list.
    private static func isOne(of values: [String], _ column: Query) -> Query {
        values.count == 1 ? "\(column) = \(values[0])" : "\(column) = ANY(\(values)::text[])"
    }
}
