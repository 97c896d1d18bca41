package import Domain
import Postgres
import Storage

/// What usage consists of: the largest groups, and all others together.
package struct UsageBreakdown: Sendable, Hashable {
    /// One group.
    package struct Group: Sendable, Hashable {
        /// Its model, provider, status, plan, user, error code, tag or end user; `nil` where the logs have none.
        package let key: String?
        package let sums: UsageTotals
        package let latency: UsageLatency
        /// Its part of the total by what the groups are ordered by, from 0 to 1; `nil` where the total is nothing.
        package let share: Double?
    }

    /// Where a page ended: its last group, and the measure that groups are ordered by.
    package struct PageEnd: Sendable, Hashable {
        package let weight: DecimalLiteral
        package let key: String?

        package init(weight: DecimalLiteral, key: String?) {
            self.weight = weight
            self.key = key
        }

        /// The end after a group with the decimal number `weight`; `nil` where it is none.
        fileprivate init?(weight: String, key: String?) {
            guard let weight = DecimalLiteral(weight) else { return nil }
            self.init(weight: weight, key: key)
        }
    }

    /// The groups after the page.
    package struct Others: Sendable, Hashable {
        package let groups: Int
        package let sums: UsageTotals
        package let share: Double?
    }

    package let range: ReportRange
    package let total: UsageTotals
    /// The largest first. Equal groups are in the order of their keys, users in that of their ids.
    package let groups: [Group]
    /// `nil` where no group is after the page.
    package let others: Others?
    /// Where this page ends; `nil` on the last.
    package let pageEnd: PageEnd?

    /// The `limit` largest groups, or those after the page that ended at `previous`. Total and shares are of all.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(
        _ scope: UsageScope, _ range: ReportRange, by group: UsageGroup, after previous: PageEnd? = nil,
        limit: Int = 10, rankedBy ranking: UsageRanking = .requests, hasLatency: Bool = false,
        on snapshot: ReportSnapshot
    ) throws -> UsageBreakdown {
        if group == .user, scope.users == nil {
            let total = try UsageQuery(scope: scope, boundaries: range.boundaries).rows(on: snapshot).first?.sums
            // Nothing can be subtracted from a number that was cut off at 2^63-1.
            if let total, !total.isSaturated {
                let order = try UserRanking.read(
                    scope, range, after: previous, limit: limit, by: ranking, on: snapshot)
                return try read(
                    order, scope, range, of: total, rankedBy: ranking, hasLatency: hasLatency, on: snapshot)
            }
        }
        let query = UsageQuery(
            scope: scope, boundaries: range.boundaries, group: group, ranking: ranking, limit: limit,
            previous: previous, hasLatency: hasLatency)
        return UsageBreakdown(range, try query.rows(on: snapshot), total: nil, of: query)
    }

    /// Users are many. So they are put in order first; then the usage of those on the page is read, and the others are
    /// the rest of the total.
    private static func read(
        _ order: UserRanking, _ scope: UsageScope, _ range: ReportRange, of total: UsageTotals,
        rankedBy ranking: UsageRanking, hasLatency: Bool, on snapshot: ReportSnapshot
    ) throws -> UsageBreakdown {
        func rows(of users: [Int64], by group: UsageGroup?, hasLatency: Bool) throws -> [UsageQuery.Row] {
            guard !users.isEmpty else { return [] }
            var scope = scope
            scope.users = users
            let query = UsageQuery(
                scope: scope, boundaries: range.boundaries, group: group, limit: users.count, hasLatency: hasLatency)
            return try query.rows(on: snapshot)
        }
        let page = Dictionary(
            uniqueKeysWithValues: try rows(of: order.page.map(\.id), by: .user, hasLatency: hasLatency)
                .map { ($0.key, $0) })
        let groups = order.page.map { user in
            let row = page["\(user.id)"]
            let sums = row?.sums ?? UsageTotals()
            return Group(
                key: "\(user.id)", sums: sums, latency: row?.latency ?? UsageLatency(),
                share: ranking.share(of: sums, in: total))
        }
        let othersCount = order.count - order.before.count - order.page.count
        guard othersCount > 0 else {
            return UsageBreakdown(range: range, total: total, groups: groups, others: nil, pageEnd: nil)
        }
        let before = try rows(of: order.before, by: nil, hasLatency: false).first?.sums ?? UsageTotals()
        let rest = groups.reduce(total - before) { $0 - $1.sums }
        return UsageBreakdown(
            range: range, total: total, groups: groups,
            others: Others(groups: othersCount, sums: rest, share: ranking.share(of: rest, in: total)),
            pageEnd: order.page.last.flatMap { PageEnd(weight: $0.weight, key: "\($0.id)") })
    }

    private init(range: ReportRange, total: UsageTotals, groups: [Group], others: Others?, pageEnd: PageEnd?) {
        (self.range, self.total, self.groups, self.others, self.pageEnd) = (range, total, groups, others, pageEnd)
    }

    /// The breakdown that `rows` of `query` are. `total` is given where it is not their sum: a log may be in several
    /// groups.
    init(_ range: ReportRange, _ rows: [UsageQuery.Row], total: UsageTotals?, of query: UsageQuery) {
        let total = total ?? rows.reduce(UsageTotals()) { $0 + $1.sums }
        let page = rows.filter { (1...query.limit).contains($0.rank) }
        let others = rows.first { $0.rank > query.limit }
        self.init(
            range: range, total: total,
            groups: page.map { row in
                Group(
                    key: row.key, sums: row.sums, latency: row.latency,
                    share: query.ranking.share(of: row.sums, in: total))
            },
            others: others.map { row in
                Others(groups: row.groups, sums: row.sums, share: query.ranking.share(of: row.sums, in: total))
            },
            pageEnd: others == nil ? nil : page.last.flatMap { PageEnd(weight: $0.weight, key: $0.key) })
    }
}

extension UsageRanking {
    /// The part of `total` that `sums` are, from 0 to 1; `nil` where the total is nothing.
    fileprivate func share(of sums: UsageTotals, in total: UsageTotals) -> Double? {
        func measure(_ sums: UsageTotals) -> Double {
            switch self {
            case .requests: Double(sums.requests)
            case .tokens: Double(sums.tokens)
            case .cost: Double(sums.pricedCost.picodollars)
            }
        }
        let whole = measure(total)
        return whole > 0 ? measure(sums) / whole : nil
    }
}
