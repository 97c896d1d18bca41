import Domain
package import Postgres
import Storage

/// Finds the rows of `api_logs` that are new, each exactly once, of every writer and in any order of commits.
///
/// Ids are drawn in order and committed in any. So below the greatest id that it has seen, the tail keeps the gaps: ids
/// of transactions that are open, and of those that were rolled back. A step reads the gaps and what is after the top.
///
/// A gap ends as the commit horizon does (``CommitHorizon``). The tail lists the transactions that hold the table's ROW
/// EXCLUSIVE lock after it has seen the gap. A writer takes this lock before it draws an id. When these transactions
/// have ended, one more step shows all that they have committed, and the gap is forgotten.
package struct LogTail: Sendable {
    /// A row of `api_logs` that is new.
    package struct Entry: Sendable, Hashable {
        package let id: Int64
        package let position: Int64
        package let user: Int64
        /// Whether its error message is longer than ``longMessageBytes``.
        package let isLong: Bool
    }

    /// What a step found.
    package struct Step: Sendable {
        /// By position.
        package var entries: [Entry] = []
        /// Whether it read all that is new. Otherwise there is more.
        package var isComplete = true
        /// Whether rows may have been missed, and readers should read everything again.
        package var isReset = false

        /// A step that found nothing.
        package init() {}

        fileprivate init(entries: [Entry] = [], isComplete: Bool = true, isReset: Bool) {
            (self.entries, self.isComplete, self.isReset) = (entries, isComplete, isReset)
        }
    }

    /// Gaps that were seen in one step.
    private struct Cohort {
        var gaps: [LogMark.Gap]
        /// The writers that may hold ids of the gaps; `nil` before they are listed.
        var awaited: Set<String>?
        /// Whether all of them have ended before the step that comes.
        var isFinal = false
    }

    /// From how many bytes on an error message is long.
    package static let longMessageBytes = 8_192
    /// How far before its end the line is searched for gaps or for unread logs.
    private static let reach: Int64 = 50_000
    /// Gaps that are kept from step to step.
    private static let maximumGaps = 2_000

    private let line: Int64
    private var top: Int64
    private var cohorts: [Cohort]
    /// Writers that may hold ids of gaps which were dropped because there were too many; `nil` where none was.
    private var forgotten: Set<String>?
    private var hasMissed = false

    /// Up to where the tail has read.
    package var mark: LogMark {
        LogMark(line: line, top: top, gaps: cohorts.flatMap(\.gaps).sorted { $0.after < $1.after })
    }

    /// Whether the next step needs ``note(writersOn:)`` before it.
    package var needsWriters: Bool { !cohorts.isEmpty || forgotten != nil }

    /// A tail that begins at the end of the line, as `snapshot` shows it.
    ///
    /// - Throws: ``PostgresError``.
    package static func begin(on snapshot: ReportSnapshot) throws -> LogTail {
        let horizon = snapshot.state.rollups.commitHorizon
        let row = try snapshot.connection.query(
            """
            SELECT (\(currentLine)),
                   (SELECT max(m.id + r.shift) FROM metering.id_ranges(\(horizon)::bigint, \(Int64.max)) r
                    CROSS JOIN LATERAL (
                        SELECT max(l.id) AS id FROM public.api_logs l WHERE l.id > r.lower AND l.id <= r.upper) m)
            """)[0]
        let line = try row.decode(0, as: Int64.self)
        let top = max(horizon, try row.decode(1, as: Int64?.self) ?? horizon)
        let gaps = try gaps(after: max(horizon, top - reach), through: top, snapshot.connection)
        return LogTail(line: line, top: top, cohorts: gaps.isEmpty ? [] : [Cohort(gaps: gaps)])
    }

    private init(line: Int64, top: Int64, cohorts: [Cohort]) {
        (self.line, self.top, self.cohorts) = (line, top, cohorts)
    }

    /// A number that changes when the ids begin again: the epoch and the file of the sequence. Before any position is
    /// known there is no new epoch.
    private static let currentLine: Query = """
        SELECT (k.epoch::bigint << 32) + coalesce(k.sequence_file, 0::oid)::bigint
        FROM metering.id_epochs k ORDER BY k.epoch DESC LIMIT 1
        """

    private static func gaps(
        after: Int64, through: Int64, _ connection: Connection
    ) throws -> [LogMark.Gap] {
        try connection.query(
            """
            SELECT p.former, p.position - 1
            FROM (SELECT l.id + r.shift AS position,
                         lag(l.id + r.shift, 1, \(after)::bigint) OVER (ORDER BY l.id + r.shift) AS former
                  FROM metering.id_ranges(\(after)::bigint, \(through)::bigint) r
                  JOIN public.api_logs l ON l.id > r.lower AND l.id <= r.upper) p
            WHERE p.position > p.former + 1
            ORDER BY 1
            """
        ).map { LogMark.Gap(after: try $0.decode(0), through: try $0.decode(1)) }
    }
}

extension LogTail {
    /// Lists the writers of the table, before the snapshot of the next step is taken.
    ///
    /// - Throws: ``PostgresError``.
    package mutating func note(writersOn connection: Connection) throws {
        var (writers, hasPrepared): (Set<String>, Bool) = ([], false)
        for row in try connection.query(CommitHorizon.writers) {
            let (name, processID) = try row.decode(String.self, Int?.self)
            writers.insert(name)
            // A transaction that was prepared meanwhile has another name, so any prepared one counts.
            if processID == nil { hasPrepared = true }
        }
        func haveEnded(_ awaited: Set<String>) -> Bool {
            awaited.isEmpty || (!hasPrepared && awaited.isDisjoint(with: writers))
        }
        for index in cohorts.indices {
            let awaited = cohorts[index].awaited ?? writers
            cohorts[index].awaited = awaited
            cohorts[index].isFinal = haveEnded(awaited)
        }
        if let awaited = forgotten, haveEnded(awaited) {
            forgotten = nil
            hasMissed = true
        }
    }

    /// Reads what is new, at most `limit` rows.
    ///
    /// - Throws: ``PostgresError``.
    package mutating func advance(limit: Int = 10_000, on snapshot: ReportSnapshot) throws -> Step {
        let current = try snapshot.connection.query(Self.currentLine)
        guard try current[0].decode(0, as: Int64.self) == line else {
            // The positions after the top may be given out again.
            self = try Self.begin(on: snapshot)
            return Step(isReset: true)
        }
        let entries = try Self.entries(in: mark.ranges, of: nil, limit: limit, snapshot.connection)
        let isComplete = entries.count < limit
        remove(entries.map(\.position), isComplete: isComplete)
        defer { hasMissed = false }
        return Step(entries: entries, isComplete: isComplete, isReset: hasMissed)
    }

    private mutating func remove(_ found: [Int64], isComplete: Bool) {
        var gaps: [LogMark.Gap] = []
        var last = top
        for position in found where position > top {
            if position > last + 1 { gaps.append(LogMark.Gap(after: last, through: position - 1)) }
            last = position
        }
        top = last
        for index in cohorts.indices {
            cohorts[index].gaps = LogMark.Gap.removing(found, from: cohorts[index].gaps)
        }
        cohorts.removeAll { $0.gaps.isEmpty || (isComplete && $0.isFinal) }
        dropExcess()
        if !gaps.isEmpty { cohorts.append(Cohort(gaps: gaps)) }
    }

    /// Drops the oldest gaps where there are too many. Readers are to read again when their writers have ended.
    private mutating func dropExcess() {
        while cohorts.reduce(0, { $0 + $1.gaps.count }) > Self.maximumGaps, let awaited = cohorts[0].awaited {
            forgotten = (forgotten ?? []).union(awaited)
            cohorts.removeFirst()
        }
    }

    /// The logs that a reader with `mark` has missed, of one user or of all. Call it in the snapshot of a complete
    /// step, after it. `nil` where there are more than `limit`, or the mark is too old or of another line.
    ///
    /// - Throws: ``PostgresError``.
    package func missed(
        since mark: LogMark, of user: Int64?, limit: Int, on snapshot: ReportSnapshot
    ) throws -> [Entry]? {
        guard mark.line == line, mark.top <= top, mark.ranges[0].after >= top - Self.reach else { return nil }
        let found = try Self.entries(in: mark.ranges, of: user, limit: limit + 1, snapshot.connection)
        return found.count > limit ? nil : found
    }

    private static func entries(
        in ranges: [LogMark.Gap], of user: Int64?, limit: Int, _ connection: Connection
    ) throws -> [Entry] {
        try connection.query(statement(ranges, of: user, limit: limit)).map { row in
            Entry(
                id: try row.decode(0), position: try row.decode(1), user: try row.decode(2),
                isLong: try row.decode(3))
        }
    }

    /// The statement on the rows in `ranges`.
    static func statement(_ ranges: [LogMark.Gap], of user: Int64?, limit: Int) -> Query {
        let isOfUser: Query = user.map { "AND l.user_id = \($0)" } ?? ""
        return """
            SELECT l.id, l.id + r.shift, l.user_id, l.is_long
            FROM unnest(\(ranges.map(\.after))::bigint[], \(ranges.map(\.through))::bigint[]) AS g (after, through)
            CROSS JOIN LATERAL metering.id_ranges(g.after, g.through) r
            -- The limit makes the planner use the index, however large the table is.
            CROSS JOIN LATERAL (
                SELECT l.id, l.user_id,
                       coalesce(octet_length(l.error_message::text), 0)
                           > \(unsafeSQL: String(longMessageBytes)) AS is_long
                FROM public.api_logs l
                WHERE l.id > r.lower AND l.id <= r.upper \(isOfUser)
                ORDER BY l.id LIMIT \(limit)) l
            ORDER BY 2 LIMIT \(limit)
            """
    }
}
