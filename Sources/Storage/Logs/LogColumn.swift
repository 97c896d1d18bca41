import Domain
import Postgres

/// A field of a log in `/api/v1`, which is also a column of its exports: its name, its type and where its value is
/// from.
package struct LogColumn: Sendable {
    /// The type of the values.
    package enum Kind: Sendable, Hashable {
        case integer
        /// USD, exact.
        case money
        case text
        /// A UTC time.
        case time
        case boolean
        /// A list of texts.
        case texts
        /// The flags of the event, and those of implausible values in the row of `api_logs`.
        case flags
    }

    package let name: String
    package let kind: Kind
    /// Whether the value is null where no sender reported it. Other columns have 0 or an empty list then.
    package let isOptional: Bool
    /// Its value in a row `l` of `api_logs`; `nil` where the table has no such column.
    private let row: Query?
    /// Its value in an event `e`; `nil` where `metering.events` has no such column. Where a log has an event, this
    /// value is shown, even NULL. Laravel's own rows have no event, and older history neither.
    private let facts: Query?

    private init(
        _ name: String, _ kind: Kind, isOptional: Bool = false, row: Query? = nil, facts: Query? = nil
    ) {
        (self.name, self.kind, self.isOptional, self.row, self.facts) = (name, kind, isOptional, row, facts)
    }

    /// All columns, in order.
    package static let all: [LogColumn] = [
        LogColumn("id", .integer, row: "l.id"),
        LogColumn("user_id", .integer, row: "l.user_id"),
        LogColumn(
            "occurred_at", .time, isOptional: true, row: time("l.created_at::timestamp"),
            facts: time("(e.occurred_at AT TIME ZONE 'UTC')")),
        LogColumn("model", .text, row: "coalesce(l.model, 'unknown')"),
        LogColumn("provider", .text, isOptional: true, facts: "e.provider"),
        // The deployment that served the call.
        LogColumn("deployment", .text, isOptional: true, facts: "e.model"),
        LogColumn("call_type", .text, isOptional: true, facts: "e.call_type"),
        LogColumn("status", .text, row: "coalesce(l.status, 'success')"),
        LogColumn("input_tokens", .integer, row: LogRow.whole("l.input_tokens"), facts: "e.input_tokens"),
        LogColumn("output_tokens", .integer, row: LogRow.whole("l.output_tokens"), facts: "e.output_tokens"),
        LogColumn("cached_tokens", .integer, isOptional: true, facts: "e.cached_tokens"),
        LogColumn("reasoning_tokens", .integer, isOptional: true, facts: "e.reasoning_tokens"),
        LogColumn("cost", .money, isOptional: true, row: LogRow.price, facts: "e.cost"),
        // As Laravel has it; 0 where that is not a plausible cost.
        LogColumn("ledger_cost", .money, row: LogRow.price),
        LogColumn(
            "duration_ms", .integer, isOptional: true, row: LogRow.whole("l.response_time_ms"),
            facts: "e.duration_ms"),
        LogColumn("time_to_first_token_ms", .integer, isOptional: true, facts: "e.first_token_ms"),
        LogColumn("is_stream", .boolean, isOptional: true, facts: "e.is_stream"),
        LogColumn("is_cache_hit", .boolean, isOptional: true, facts: "e.is_cache_hit"),
        LogColumn("error_code", .text, isOptional: true, facts: "e.error_code"),
        // A long message is read after its row, since it has no bound: see `LogEntries`.
        LogColumn(
            "error_message", .text, isOptional: true,
            row: """
                CASE WHEN octet_length(l.error_message::text) <= \(unsafeSQL: String(longMessageBytes))
                     THEN l.error_message END
                """),
        // The client's name for its own user.
        LogColumn("end_user", .text, isOptional: true, facts: "e.end_user"),
        LogColumn("tags", .texts, facts: "e.tags"),
        LogColumn("flags", .flags, facts: "e.flags"),
        // The user's plan when the event was stored.
        LogColumn("plan", .text, isOptional: true, facts: "e.plan"),
        LogColumn("event_key", .text, isOptional: true, facts: "e.event_key"),
    ]

    /// From how many bytes on an error message is long. Of a stored text PostgreSQL knows the length without reading
    /// it.
    static let longMessageBytes = 1_024

    /// `moment` as a `timestamp`; NULL outside of the years 1 to 9999, which RFC 3339 cannot write.
    private static func time(_ moment: Query) -> Query {
        "CASE WHEN \(moment) >= '0001-01-01' AND \(moment) <= '9999-12-31 23:59:59.999999' THEN \(moment) END"
    }

    /// The positions of a column in ``rowColumns`` and ``factColumns``; -1 where it is not among them.
    struct Position {
        let row: Int
        let facts: Int
    }

    /// The expressions of a row `l`, those of an event `e`, and the positions of each column in them.
    private static let selection: (row: [Query], facts: [Query], positions: [Position]) = {
        var (row, facts): ([Query], [Query]) = ([], [])
        func position(_ expression: Query?, in columns: inout [Query]) -> Int {
            guard let expression else { return -1 }
            // `cost` and `ledger_cost` share an expression.
            if let known = columns.firstIndex(where: { $0.sql == expression.sql }) { return known }
            columns.append(expression)
            return columns.count - 1
        }
        let positions = all.map { column in
            Position(row: position(column.row, in: &row), facts: position(column.facts, in: &facts))
        }
        return (row, facts, positions)
    }()

    /// What to select of a row `l` of `api_logs`.
    static let rowColumns: Query = list(selection.row)
    /// What to select of an event `e`.
    static let factColumns: Query = list(selection.facts)
    /// The number of ``rowColumns``.
    static let rowCount = selection.row.count
    /// The number of ``factColumns``.
    static let factCount = selection.facts.count
    /// The positions of ``all`` in ``rowColumns`` and ``factColumns``.
    static let positions = selection.positions

    private static func list(_ columns: [Query]) -> Query { columns.dropFirst().reduce(columns[0]) { "\($0), \($1)" } }

    /// The position of the column `name` in ``all``. A name that is not there stops the program.
    package static func position(of name: String) -> Int {
        guard let position = all.firstIndex(where: { $0.name == name }) else {
            preconditionFailure("no column \(name)")
        }
        return position
    }
}
