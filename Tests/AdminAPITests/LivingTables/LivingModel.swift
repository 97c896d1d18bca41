import Domain
import Storage

/// What sums must be, kept by the story itself: events by their facts, and the rows of `api_logs` without an event as
/// they were when a pass of the worker rolled them up (`docs/architecture.md`).
///
/// Every row has a token of its own: its duration in milliseconds, which no writer changes. Ids are given out twice.
struct LivingModel {
    typealias Token = Int64

    /// What a row or an event adds to sums.
    struct Fact: Hashable {
        var user: Int64
        /// Quarters of an hour since 1970; that of 1970 where the time is none of a calendar's.
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
        /// Whether its id can be given to another row in the same counting of ids.
        var isLastOfItsID = true
    }

    /// A row of `api_logs` as a plain query finds it.
    struct Row: Hashable {
        var id: Int64
        var token: Token
        var fact: Fact
    }

    var events: [Token: Event] = [:]
    /// Rows without an event, as they were when they were folded.
    var folded: [Token: Fact] = [:]
    /// What users who are gone had of such rows when sums were made again. It stays, whoever has the rows now.
    private var history: [Fact] = []
    /// Rows that were imported with ids which the worker had passed. Sums have them after a rebuild.
    var imported: Set<Token> = []
    /// Rows that were imported with the id of an event whose row was deleted, and that event: they count as its row
    /// until it is withdrawn.
    var shadowed: [Token: Token] = [:]

    private func isPending(_ row: Row) -> Bool {
        events[row.token] == nil && folded[row.token] == nil && !imported.contains(row.token)
            && shadowed[row.token] == nil
    }

    /// A pass folded everything that is in `rows`.
    mutating func fold(_ rows: [Row]) {
        for row in rows where isPending(row) { folded[row.token] = row.fact }
    }

    /// The ids after `id` are given out again.
    mutating func countAgain(after id: Int64) {
        for token in events.keys where (events[token]?.logID ?? 0) > id { events[token]?.isLastOfItsID = false }
    }

    /// The event was withdrawn: rows that stand at its id have no event any more. Those that a pass has gone past are
    /// in no sum until a rebuild, like rows that are imported there; a pass adds the others.
    mutating func withdraw(_ token: Token, _ rows: [Row], passedID: Int64) {
        events[token] = nil
        for row in rows where row.token == token || shadowed[row.token] == token {
            shadowed[row.token] = nil
            if row.id <= passedID { imported.insert(row.token) }
        }
    }

    /// Sums were made again from `rows`; the history of users who are no longer there stays. A row that such a user had
    /// given away before counts for its new user as well: nothing is known of it but the old sums.
    mutating func rebuild(_ rows: [Row], users: [Int64]) {
        history += folded.values.filter { !users.contains($0.user) }
        folded = [:]
        imported = []
        fold(rows)
    }

    /// Everything that counts, while `rows` are in the table.
    func facts(_ rows: [Row]) -> [Fact] {
        events.values.map(\.fact) + history + folded.values + rows.filter(isPending).map(\.fact)
    }

    /// The living users of whom raw rows and sums differ, because others changed rows that were folded, or imported
    /// some.
    func differing(_ rows: [Row], users: [Int64]) -> Set<Int64> {
        let present = Dictionary(rows.map { ($0.token, $0.fact) }, uniquingKeysWith: { first, _ in first })
        var differing: Set<Int64> = []
        for (token, fact) in folded where present[token] != fact {
            differing.insert(fact.user)
            if let other = present[token]?.user { differing.insert(other) }
        }
        for token in imported { if let user = present[token]?.user { differing.insert(user) } }
        return differing.intersection(users)
    }
}
