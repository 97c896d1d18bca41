import Postgres

/// Finds logs by their time.
///
/// The logs of one user are in Laravel's index on `(user_id, created_at)`. For the logs of all users it is searched for
/// each user in turn, which takes some microseconds each. If an operator made an index on `(created_at, id)`, that one
/// serves all users at once.
struct LogSource: Sendable {
    /// The way in which a read finds its rows.
    enum Way: Sendable {
        /// Directly in the table: the rows of one user, or by an index on the time.
        case table
        /// For each row of `users`. By Laravel's foreign key no other user has logs.
        case users
        /// For each user id in the logs, where the foreign key is missing.
        case holders
    }

    let way: Way

    static func find(_ filter: LogFilter, _ connection: Connection) throws -> LogSource {
        guard filter.userID == nil else { return LogSource(way: .table) }
        let row = try connection.query(
            """
            SELECT EXISTS (SELECT \(index("created_at"))), EXISTS (SELECT \(index("user_id"))),
                   EXISTS (SELECT FROM pg_constraint k
                           JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
                           WHERE k.conrelid = 'public.api_logs'::regclass AND k.confrelid = 'public.users'::regclass
                             AND k.contype = 'f' AND k.convalidated AND a.attname = 'user_id')
            """)[0]
        let (isByTime, isByUser, hasForeignKey) = try row.decode(Bool.self, Bool.self, Bool.self)
        return LogSource(way: isByTime || !isByUser ? .table : hasForeignKey ? .users : .holders)
    }

    /// Makes the statements of the transaction use indexes, even if one user has most of the table. Each is planned for
    /// its own user and range, because a generic plan would not count many rows with several workers.
    static func prepare(_ connection: Connection) throws {
        try connection.executeScript(
            """
            SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off;
            SET LOCAL work_mem = '32MB'
            """)
    }

    /// A usable index of all logs whose first column is this one.
    private static func index(_ column: String) -> Query {
        """
        FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam
        JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        WHERE x.indrelid = 'public.api_logs'::regclass AND x.indisvalid AND x.indpred IS NULL AND m.amname = 'btree'
          AND a.attname = \(column)
        """
    }

    /// `FROM` and `WHERE` that give the rows `l` of which `condition` is true.
    func rows(where condition: Query) -> Query {
        switch way {
        case .table: "FROM public.api_logs l WHERE \(condition)"
        case .users: "FROM public.users h \(Self.each(condition))"
        case .holders: "FROM (\(Self.holders)) h \(Self.each(condition))"
        }
    }

    /// The rows of each user. OFFSET prevents a join in the other direction, which would scan the table.
    private static func each(_ condition: Query) -> Query {
        """
        CROSS JOIN LATERAL (
            SELECT l.id, l.user_id, l.model, l.input_tokens, l.output_tokens, l.total_cost, l.response_time_ms,
                   l.status,
                   l.error_message, l.created_at, l.updated_at
            FROM public.api_logs l WHERE l.user_id = h.id AND \(condition) OFFSET 0) l
        """
    }

    /// Each user id of the index, by one look-up for each.
    private static let holders: Query = """
        WITH RECURSIVE holder AS (
            (SELECT l.user_id AS id FROM public.api_logs l ORDER BY l.user_id LIMIT 1)
            UNION ALL
            SELECT (SELECT l.user_id FROM public.api_logs l WHERE l.user_id > r.id ORDER BY l.user_id LIMIT 1)
            FROM holder r WHERE r.id IS NOT NULL
        )
        SELECT id FROM holder WHERE id IS NOT NULL
        """

    /// The earliest finite time of all logs; `nil` where there is none.
    func earliest(_ connection: Connection) throws -> LogCut? {
        try first("l.created_at", "min", where: "l.created_at > '-infinity' AND l.created_at < 'infinity'", connection)
    }

    /// The latest finite time before `end`; `nil` where there is none.
    func latest(before end: LogCut, _ connection: Connection) throws -> LogCut? {
        let range: Query = "l.created_at > '-infinity' AND \(end.condition.before)"
        return try first("l.created_at DESC", "max", where: range, connection)
    }

    /// The first of the first times of all users.
    private func first(
        _ order: Query, _ function: Query, where range: Query, _ connection: Connection
    ) throws -> LogCut? {
        let holders: Query = way == .holders ? Self.holders : "SELECT id FROM public.users"
        let rows = try connection.query(
            """
            SELECT \(LogCut.seconds(of: "\(function)(f.time)")) FROM (\(holders)) h CROSS JOIN LATERAL (
                SELECT l.created_at AS time FROM public.api_logs l
                WHERE l.user_id = h.id AND \(range) ORDER BY \(order) LIMIT 1) f
            """)
        return try rows[0].decode(0, as: Int64?.self).map { LogCut(seconds: $0) }
    }
}
