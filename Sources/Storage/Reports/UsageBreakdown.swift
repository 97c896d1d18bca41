package import Domain

/// What usage consists of: the largest groups, and all others together.
package struct UsageBreakdown: Sendable, Hashable {
    /// One group.
    package struct Part: Sendable, Hashable {
        /// Its model, provider, status, plan, user, error code, tag or end user; `nil` where the calls have none.
        package let key: String?
        package let sums: UsageSums
        package let latency: UsageLatency
        /// Its part of the whole by what the groups are ordered by, 0 to 1; `nil` where the whole is nothing.
        package let share: Double?
    }

    /// Where a page ended: its last group, and the measure it is ordered by.
    package struct Place: Sendable, Hashable {
        package let weight: DecimalLiteral
        package let key: String?

        package init(weight: DecimalLiteral, key: String?) {
            self.weight = weight
            self.key = key
        }
    }

    /// The groups behind those that have a part of their own.
    package struct Others: Sendable, Hashable {
        package let groups: Int
        package let sums: UsageSums
        package let share: Double?
    }

    package let range: ReportRange
    package let total: UsageSums
    /// The largest first; equal ones in the order of their keys, users by id.
    package let parts: [Part]
    /// `nil` where no group is behind the last part.
    package let others: Others?
    /// Where the next page begins; `nil` on the last.
    package let next: Place?

    /// The `limit` largest groups, or those behind `place`; total and shares are of all.
    ///
    /// - Throws: ``PostgresError``.
    package init(
        _ scope: UsageScope, _ range: ReportRange, by group: UsageGroup, after place: Place? = nil, limit: Int = 10,
        rankedBy ranking: UsageRanking = .requests, hasLatency: Bool = false, _ snapshot: UsageSnapshot
    ) throws {
        if group == .user, scope.users == nil {
            let total = try UsageTable(scope: scope, boundaries: range.boundaries).cells(snapshot).first?.sums
            // Of what was cut off at 2^63-1 nothing can be taken away.
            if let total, !total.isSaturated {
                try self.init(
                    scope, range, of: total, after: place, limit: limit, rankedBy: ranking, hasLatency: hasLatency,
                    snapshot)
                return
            }
        }
        let table = UsageTable(
            scope: scope, boundaries: range.boundaries, group: group, ranking: ranking, limit: limit, place: place,
            hasLatency: hasLatency)
        self.init(range, try table.cells(snapshot), total: nil, table)
    }

    /// Users are many: first they are put in order, then those on the page are looked at, and the others are what is left.
    private init(
        _ scope: UsageScope, _ range: ReportRange, of total: UsageSums, after place: Place?, limit: Int,
        rankedBy ranking: UsageRanking, hasLatency: Bool, _ snapshot: UsageSnapshot
    ) throws {
        func read(_ users: [Int64], by group: UsageGroup?, hasLatency: Bool) throws -> [UsageTable.Cell] {
            guard !users.isEmpty else { return [] }
            var scope = scope
            scope.users = users
            let table = UsageTable(
                scope: scope, boundaries: range.boundaries, group: group, limit: users.count, hasLatency: hasLatency)
            return try table.cells(snapshot)
        }
        let order = try UserRanking(scope, range, after: place, limit: limit, by: ranking, snapshot)
        let cells = Dictionary(
            uniqueKeysWithValues: try read(order.page.map(\.user), by: .user, hasLatency: hasLatency)
                .map { ($0.key, $0) })
        let before = try read(order.before, by: nil, hasLatency: false).first?.sums ?? UsageSums()
        self.range = range
        self.total = total
        parts = order.page.map { place in
            let cell = cells["\(place.user)"]
            let sums = cell?.sums ?? UsageSums()
            return Part(
                key: "\(place.user)", sums: sums, latency: cell?.latency ?? UsageLatency(),
                share: ranking.share(of: sums, in: total))
        }
        let behind = order.count - order.before.count - order.page.count
        if behind > 0 {
            let rest = parts.reduce(total - before) { $0 - $1.sums }
            others = Others(groups: behind, sums: rest, share: ranking.share(of: rest, in: total))
        } else {
            others = nil
        }
        next =
            others == nil
            ? nil
            : order.page.last.flatMap { last in
                DecimalLiteral(last.weight).map { Place(weight: $0, key: "\(last.user)") }
            }
    }

    /// The parts that `cells` of `table` are; of a total that is not their sum where a call may be in several.
    init(_ range: ReportRange, _ cells: [UsageTable.Cell], total: UsageSums?, _ table: UsageTable) {
        let total = total ?? cells.reduce(UsageSums()) { $0 + $1.sums }
        self.range = range
        self.total = total
        let own = cells.filter { (1...table.limit).contains($0.rank) }
        parts = own.map { cell in
            Part(
                key: cell.key, sums: cell.sums, latency: cell.latency,
                share: table.ranking.share(of: cell.sums, in: total))
        }
        others = cells.first { $0.rank > table.limit }.map { cell in
            Others(groups: cell.groups, sums: cell.sums, share: table.ranking.share(of: cell.sums, in: total))
        }
        let last = others == nil ? nil : own.last
        next = last.flatMap { last in DecimalLiteral(last.weight).map { Place(weight: $0, key: last.key) } }
    }
}

extension UsageRanking {
    /// The part of `total` that `sums` are, 0 to 1.
    fileprivate func share(of sums: UsageSums, in total: UsageSums) -> Double? {
        func measure(_ sums: UsageSums) -> Double {
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
