package import Domain
package import Postgres
import Synchronization

/// The order of the logs, which also holds when Laravel begins the ids of `api_logs` again
/// (`migrations/0018_id_line.sql`).
///
/// A position is an id plus the shift of its epoch. `metering.events.api_log_id` and the watermarks are positions.
package enum IDLine {
    /// The ids began again since the last epoch began. The transaction must be rolled back and run again after
    /// ``look(_:)``.
    package struct BeganAgain: Error, CustomStringConvertible {
        package var description: String {
            """
            The ids of api_logs began again (TRUNCATE … RESTART IDENTITY, ALTER SEQUENCE or setval) and could not \
            be distinguished from the former ones. Try again.
            """
        }

        /// The error.
        package init() {}
    }

    /// The last position that this process has drawn.
    final class Memory: Sendable {
        private let last = Mutex<Int64>(0)

        var position: Int64 { last.withLock(\.self) }

        /// Notes a position. It counts even if its transaction is rolled back, because the sequence is not.
        func note(_ position: Int64) {
            last.withLock { $0 = max($0, position) }
        }
    }

    /// How often a transaction runs again because the ids began again meanwhile.
    static let attempts = 3

    /// Begins a new epoch if the ids began again, in a transaction of its own. Returns whether it did.
    ///
    /// - Throws: ``PostgresError``.
    @discardableResult
    package static func look(_ connection: Connection) throws -> Bool {
        guard try beganAgain(connection) else { return false }
        return try connection.transaction { connection in
            // It reads all rows that are left in `api_logs`, once.
            try connection.executeScript("SET LOCAL statement_timeout = 0")
            return try connection.query("SELECT metering.begin_id_epoch()")[0].decode(0)
        }
    }

    /// Runs `body`, and runs it again after a new epoch when it throws ``BeganAgain``.
    ///
    /// - Throws: What `body` throws; ``PostgresError``.
    package static func retrying<T>(_ connection: Connection, _ body: (Connection) throws -> T) throws -> T {
        for _ in 1..<attempts {
            do { return try body(connection) } catch is BeganAgain { try look(connection) }
        }
        return try body(connection)
    }

    /// Like the function above, with a connection of `pool` for each attempt.
    ///
    /// - Throws: What `body` throws; ``PostgresError``.
    package static func retrying<T: Sendable>(_ pool: ConnectionPool, _ body: () async throws -> T) async throws -> T {
        for _ in 1..<attempts {
            do { return try await body() } catch is BeganAgain {
                _ = try await pool.withConnection { try look($0) }
            }
        }
        return try await body()
    }

    /// Requires that the ids did not begin again. Call it after each step that uses positions, in its transaction.
    ///
    /// - Throws: ``BeganAgain``, ``PostgresError``.
    package static func require(_ connection: Connection) throws {
        if try beganAgain(connection) { throw BeganAgain() }
    }

    private static func beganAgain(_ connection: Connection) throws -> Bool {
        try connection.query("SELECT metering.ids_began_again()")[0].decode(0)
    }

    /// SQL of the id of the log at a position.
    package static func id(of position: Query) -> Query {
        """
        (\(position) - (SELECT k.shift FROM metering.id_epochs k WHERE k.first_position <= \(position)
                        ORDER BY k.epoch DESC LIMIT 1))
        """
    }

    /// SQL of the position of an id, as by `metering.log_position`. It is written out because an export needs it for
    /// each row, and a call of the function takes 5 µs.
    static func position(of id: Query) -> Query {
        """
        (SELECT least(\(id), 9223372036854775807 - s.shift) + s.shift FROM metering.id_segments s
         WHERE s.after_id < \(id) AND s.through_id >= \(id))
        """
    }

    /// Whether the row `l` of `api_logs` is the log of the event `e`: it has the same position, user, second, model,
    /// tokens and status. Its cost may have been corrected.
    ///
    /// A row that was imported with the id of another, was given to another user or got another time has no facts.
    package static let isRowOfEvent: Query = "e.api_log_id = \(position(of: "l.id")) AND \(isSameCall)"

    /// The part of ``isRowOfEvent`` after the position.
    static let isSameCall: Query = """
        metering.is_row_of_event(
            l.user_id, l.created_at, coalesce(l.model, 'unknown'), \(LogRow.whole("l.input_tokens")),
            \(LogRow.whole("l.output_tokens")), coalesce(l.status, 'success'),
            e.user_id, e.occurred_at, e.model_group, e.input_tokens, e.output_tokens, e.status)
        """

    /// Begins again at the first epoch, for rows of other tables.
    static func reset(_ connection: Connection) throws {
        try connection.executeScript(
            """
            DELETE FROM metering.id_epochs;
            DELETE FROM metering.id_segments;
            INSERT INTO metering.id_epochs (epoch, first_position, shift, began_at) VALUES (0, 0, 0, now());
            INSERT INTO metering.id_segments (after_id, through_id, shift) VALUES (0, 9223372036854775807, 0)
            """)
        try adoptRows(connection)
    }

    /// Records all present rows as known, in a table that was created again.
    static func adoptRows(_ connection: Connection) throws {
        try connection.executeScript(
            """
            UPDATE metering.id_epochs
            SET sequence_file = pg_relation_filenode('public.api_logs_id_seq')
            WHERE epoch = (SELECT max(k.epoch) FROM metering.id_epochs k);
            UPDATE metering.rollup_watermark SET horizon_snapshot = pg_current_snapshot()
            """)
    }
}

extension IDLine {
    /// The time for which the doctor warns that ids began again.
    private static let warnsFor: Duration = .seconds(7 * 86_400)

    /// The finding of the doctor about ids that began again. They are handled; the operator should know of them.
    ///
    /// - Throws: ``PostgresError``.
    package static func finding(_ connection: Connection, now: Timestamp) throws -> Finding {
        let row = try connection.query(
            """
            SELECT metering.ids_began_again(), max(k.epoch)::bigint, \(microseconds: "max(k.began_at)"),
                   (SELECT CASE WHEN isfinite(c.logs_sealed_before)
                                THEN \(rfc3339: "c.logs_sealed_before") END
                    FROM metering.rollup_watermark c)
            FROM metering.id_epochs k
            """)[0]
        let (isNew, count, began, sealed) = try row.decode(Bool.self, Int64.self, Int64.self, String?.self)
        if isNew {
            return .warning(
                "ids", "the ids of api_logs began again (TRUNCATE … RESTART IDENTITY, ALTER SEQUENCE or setval)",
                "Run 'aggregation-worker once', or start a service: it goes on after the ids that are known.")
        }
        guard count > 0 else { return .ok("ids", "the ids of api_logs never began again") }
        let last = Timestamp(microseconds: began)
        let times = count == 1 ? "once" : "\(count) times, the last time"
        let message =
            "the ids of api_logs began again \(times) at \(last.rfc3339); new rows are distinguished from former ones"
        guard last.advanced(by: warnsFor) > now else { return .ok("ids", message) }
        let kept =
            sealed.map { " Sums of Laravel's own rows before \($0) stay, and 'verify' does not prove them." } ?? ""
        return .warning(
            "ids", message,
            """
            Nothing, if it was intended: usage and events from before are kept.\(kept) Otherwise find out who empties \
            api_logs, and see that the sequence is not below the table's ids. This is reported for 7 days.
            """)
    }

    /// The finding for a service's log and readiness; none if ids did not begin again lately.
    ///
    /// - Throws: ``PostgresError``.
    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        let last = try connection.query(
            """
            SELECT \(rfc3339: "max(k.began_at)") FROM metering.id_epochs k
            WHERE k.epoch > 0 AND k.began_at > now() - \(warnsFor.components.seconds)::bigint * interval '1 second'
            """)[0].decode(0, as: String?.self)
        guard let last else { return [] }
        return [
            LaravelFinding(
                .handled, "The ids of api_logs began again at \(last)",
                meaning: "New rows are distinguished from former ones, and usage from before is kept.",
                remedy: "Nothing, if it was intended. Otherwise find out who empties api_logs.")
        ]
    }
}
