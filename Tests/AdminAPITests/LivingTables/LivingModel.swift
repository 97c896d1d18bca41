import Domain
import Storage

/// The totals that the reports must show. The test keeps them itself: events by their facts, and rows of `api_logs`
/// without an event as they were when a pass rolled them up (`docs/architecture.md`).
///
/// Ids are given out twice. So every row has a token of its own: its duration in milliseconds, which no writer changes.
struct LivingModel {
    typealias Token = Int64

    /// What a row or an event adds to totals.
    struct Fact: Hashable {
        var user: Int64
        /// Intervals of 15 minutes since 1970; 0 where the time is in no calendar.
        var quarter: Int64
        var tokens: Int64
        var outputTokens: Int64
        var cachedTokens: Int64 = 0
        var reasoningTokens: Int64 = 0
        /// Milliseconds.
        var duration: Int64
        /// Milliseconds, of streams.
        var firstToken: Int64?
        /// 10^-12 USD; `nil` where the price is not known.
        var picodollars: Int128?
        /// 10^-6 USD, as `api_logs.total_cost` had it at first.
        var microdollars: Int128
        var model: String
        var status: String
        var isSelfReported = false
    }

    struct Event {
        var fact: Fact
        var event: UsageEvent
        var logID: Int64
        /// Whether another writer has changed its row, so that the row may have lost its facts.
        var isTouched = false
        /// Whether no later event has its id.
        var isLastOfItsID = true
    }

    /// A row of `api_logs` as a plain query finds it.
    struct Row: Hashable {
        var id: Int64
        var token: Token
        var fact: Fact
    }

    var events: [Token: Event] = [:]
    /// Rows without an event, as they were when they were rolled up.
    var rolledUp: [Token: Fact] = [:]
    /// Such rows of users who were deleted before a rebuild. They stay in the rollups.
    private var history: [Fact] = []
    /// Rows that were imported with ids up to the watermark. Rollups have them after a rebuild.
    var imported: Set<Token> = []
    /// Rows that were imported with the id of an event whose row was deleted, and that event: they count as its row
    /// until it is withdrawn.
    var shadowed: [Token: Token] = [:]

    private func isPending(_ row: Row) -> Bool {
        events[row.token] == nil && rolledUp[row.token] == nil && !imported.contains(row.token)
            && shadowed[row.token] == nil
    }

    /// A pass rolled up everything that is in `rows`.
    mutating func rollUp(_ rows: [Row]) {
        for row in rows where isPending(row) { rolledUp[row.token] = row.fact }
    }

    /// The ids after `id` are given out again.
    mutating func countAgain(after id: Int64) {
        for token in events.keys where (events[token]?.logID ?? 0) > id { events[token]?.isLastOfItsID = false }
    }

    /// The event was withdrawn. So rows with its id have no event any more. Those up to the watermark are in no rollup
    /// until a rebuild, like rows that are imported there. A pass adds the others.
    mutating func withdraw(_ token: Token, _ rows: [Row], passedID: Int64) {
        events[token] = nil
        for row in rows where row.token == token || shadowed[row.token] == token {
            shadowed[row.token] = nil
            if row.id <= passedID { imported.insert(row.token) }
        }
    }

    /// Rollups were made again from `rows`. The history of deleted users stays. A row that such a user had given away
    /// before counts for its new user as well, because only the old rollups show whose it was.
    mutating func rebuild(_ rows: [Row], users: [Int64]) {
        history += rolledUp.values.filter { !users.contains($0.user) }
        rolledUp = [:]
        imported = []
        rollUp(rows)
    }

    /// Everything that counts, while `rows` are in the table.
    func facts(_ rows: [Row]) -> [Fact] {
        events.values.map(\.fact) + history + rolledUp.values + rows.filter(isPending).map(\.fact)
    }

    /// The users whose rows and rollups differ, because others imported rows or changed rows after a pass.
    func differing(_ rows: [Row], users: [Int64]) -> Set<Int64> {
        let present = Dictionary(rows.map { ($0.token, $0.fact) }, uniquingKeysWith: { first, _ in first })
        var differing: Set<Int64> = []
        for (token, fact) in rolledUp where present[token] != fact {
            differing.insert(fact.user)
            if let other = present[token]?.user { differing.insert(other) }
        }
        for token in imported { if let user = present[token]?.user { differing.insert(user) } }
        return differing.intersection(users)
    }
}
