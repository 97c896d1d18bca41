package import Domain
package import Postgres

/// A user's wish for higher limits.
package struct LimitRequest: Sendable, Hashable {
    /// What an administrator said.
    package struct Answer: Sendable, Hashable {
        package let isGranted: Bool
        package let note: String?
        package let by: Int64
        package let at: Timestamp
    }

    package let id: Int64
    package let userID: Int64
    package let period: QuotaPeriod
    package let reason: String?
    package let requestedAt: Timestamp
    /// `nil` while it is open.
    package let answer: Answer?
}

extension LimitRequest {
    /// Keeps the wish; a second one for the same period while the first is open replaces its reason.
    package static func insert(
        for user: Int64, _ period: QuotaPeriod, reason: String?, _ connection: Connection, now: Timestamp
    ) throws {
        try connection.execute(
            """
            INSERT INTO metering.limit_requests (user_id, period, reason, requested_at)
            VALUES (\(user), \(period.rawValue), \(reason), \(now))
            ON CONFLICT (user_id, period) WHERE answered_at IS NULL
            DO UPDATE SET reason = excluded.reason, requested_at = excluded.requested_at
            """)
    }

    /// The wishes, newest first: of one user or of everybody, at most `limit` of those before `cursor`.
    package static func list(
        of user: Int64? = nil, onlyOpen: Bool = false, before cursor: Int64? = nil, limit: Int = 100,
        _ connection: Connection
    ) throws -> [LimitRequest] {
        let conditions: [Query?] = [
            user.map { "r.user_id = \($0)" }, onlyOpen ? "r.answered_at IS NULL" : nil, cursor.map { "r.id < \($0)" },
        ]
        let condition: Query = conditions.compactMap(\.self).reduce("true") { "\($0) AND \($1)" }
        return try connection.query(
            "SELECT \(columns) FROM metering.limit_requests r WHERE \(condition) ORDER BY r.id DESC LIMIT \(limit)"
        ).compactMap(LimitRequest.init)
    }

    /// The wish `id`, or `nil`.
    static func find(_ id: Int64, _ connection: Connection) throws -> LimitRequest? {
        try connection.query("SELECT \(columns) FROM metering.limit_requests r WHERE r.id = \(id)").first
            .flatMap(LimitRequest.init)
    }

    private static let columns: Query = """
        r.id, r.user_id, r.period, r.reason, \(microseconds: "r.requested_at"), r.answer, r.note, r.answered_by,
        \(microseconds: "r.answered_at")
        """

    private init?(_ row: Row) throws {
        let (id, user, period, reason, requested, answer, note, by, at) = try row.decode(
            Int64.self, Int64.self, String.self, String?.self, Int64.self, String?.self, String?.self, Int64?.self,
            Int64?.self)
        guard let period = QuotaPeriod(rawValue: period) else { return nil }
        self.init(
            id: id, userID: user, period: period, reason: reason, requestedAt: Timestamp(microseconds: requested),
            answer: answer.map {
                Answer(
                    isGranted: $0 == "granted", note: note, by: by ?? 0, at: Timestamp(microseconds: at ?? requested))
            })
    }
}
