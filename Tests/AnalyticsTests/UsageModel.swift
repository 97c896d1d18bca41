import Domain
import Postgres
import TestSupport

/// What the sums must be, kept by the test itself while others fold, wait and die.
struct UsageModel {
    /// A committed row.
    struct Row {
        var id: Int64
        var user: Int64
        var quarter: Int64
        var tokens: Int64
        /// 10^-12 USD.
        var picodollars: Int64
        var isEvent: Bool
        /// Its user reported it, so it counts for the user alone.
        var isSelfReported = false
        var event: UsageEvent?
    }

    private(set) var rows: [Row] = []

    mutating func commit(_ row: Row) {
        rows.append(row)
    }

    /// An operator withdraws an event.
    mutating func withdraw(_ id: Int64) {
        rows.removeAll { $0.id == id }
    }

    /// Laravel deletes a user: events keep their facts, and so do others that were folded by then.
    mutating func delete(_ user: Int64, foldedOthers: Int64) {
        rows.removeAll { $0.user == user && !$0.isEvent && $0.id > foldedOthers }
    }

    private func counts(_ row: Row, for user: Int64) -> Bool {
        user == 0 ? !row.isSelfReported : row.user == user
    }

    /// `requests tokens picodollars` of a user, 0 for everybody: in each bucket between `boundaries`, and in all.
    func sums(of user: Int64, between boundaries: [Int64]) -> (buckets: [String], total: String) {
        var cells = Array(repeating: (requests: 0, tokens: Int64(0), picodollars: Int64(0)), count: boundaries.count)
        for row in rows where counts(row, for: user) {
            guard let bucket = boundaries.lastIndex(where: { $0 <= row.quarter }), bucket < boundaries.count - 1 else {
                continue
            }
            // The last place, behind all buckets, has the total.
            for place in [bucket, boundaries.count - 1] {
                cells[place].requests += 1
                cells[place].tokens += row.tokens
                cells[place].picodollars += row.picodollars
            }
        }
        let lines = cells.map { "\($0.requests) \($0.tokens) \($0.picodollars)" }
        return (Array(lines.dropLast()), lines[lines.count - 1])
    }

    /// `user requests tokens picodollars` of whoever has most requests from `start` to before `end`; of equals the
    /// first.
    func largest(from start: Int64, to end: Int64) -> String? {
        let counted = UsageModel(rows: rows.filter { counts($0, for: 0) })
        let users = Dictionary(grouping: counted.rows.filter { $0.quarter >= start && $0.quarter < end }, by: \.user)
        return users.max { ($0.value.count, $1.key) < ($1.value.count, $0.key) }.map { user, _ in
            "\(user) \(counted.sums(of: user, between: [start, end]).total)"
        }
    }

    /// `quarter requests tokens picodollars` of a user, 0 for everybody, a line each.
    func usage(of user: Int64) -> String {
        var cells: [Int64: (requests: Int, tokens: Int64, picodollars: Int64)] = [:]
        for row in rows where counts(row, for: user) {
            let cell = cells[row.quarter] ?? (0, 0, 0)
            cells[row.quarter] = (cell.requests + 1, cell.tokens + row.tokens, cell.picodollars + row.picodollars)
        }
        return cells.sorted { $0.key < $1.key }
            .map { "\($0.key) \($0.value.requests) \($0.value.tokens) \($0.value.picodollars)" }.joined(separator: "\n")
    }
}

extension Queryable {
    /// The same lines, as a reader of sums and tail finds them.
    func usageLines(of user: Int64) async throws -> String {
        let lines = try await text(
            """
            WITH cursor AS (SELECT * FROM metering.rollup_watermark), cell AS (
                SELECT quarter, requests, input_tokens, cost FROM metering.rollup_15m WHERE user_id = \(user)
                UNION ALL
                SELECT metering.quarter_of(f.occurred_at), 1, f.input_tokens, f.cost
                FROM cursor, metering.event_facts(event_log_id, 9223372036854775807) f
                WHERE f.user_id = \(user) OR \(user) = 0 AND NOT f.is_self_reported
                UNION ALL
                SELECT metering.quarter_of(f.occurred_at), 1, f.input_tokens, f.cost
                FROM cursor, metering.log_facts(other_log_id, 9223372036854775807) f
                WHERE f.user_id = \(user) OR \(user) = 0 AND NOT f.is_self_reported
            )
            SELECT string_agg(concat_ws(' ', quarter, requests, tokens, picodollars), E'\\n' ORDER BY quarter)
            FROM (SELECT quarter, sum(requests) AS requests, sum(input_tokens) AS tokens,
                         (sum(cost) * 1000000000000)::bigint AS picodollars
                  FROM cell GROUP BY 1) x
            """)
        return lines ?? ""
    }
}
