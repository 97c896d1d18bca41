import Domain
import LiteLLM
import Postgres
import Storage

/// LiteLLM's own record of calls beside ours, hour by hour and key by key.
struct Reconciliation: Sendable {
    /// LiteLLM's database.
    let litellm: ConnectionPool
    /// The schema of its tables.
    let schema: String
    /// Ours.
    let pool: ConnectionPool
    let retention: Duration
    let errorText: ErrorText
    let now: @Sendable () -> Timestamp

    /// The hours and keys of which both do not say the same; their calls are looked up one by one, and what is missing is
    /// given to `take`, a page at a time.
    ///
    /// - Throws: ``PostgresError``.
    func compare(
        _ range: Range<Timestamp>, take: ([IngestItem]) async throws -> Void = { _ in }
    ) async throws -> (calls: Int64, differences: [HourOfKey]) {
        var total: Int64 = 0
        var found: [HourOfKey] = []
        // A day at a time: what is held in memory is the hours and keys of one.
        var start = range.lowerBound
        while start < range.upperBound {
            let end = min(range.upperBound, start.advanced(by: .seconds(86_400)))
            let part = start..<end
            let theirs = try await litellm.withConnection { try SpendLogs.sums(part, in: schema, $0) }
            let ours = try await pool.withConnection { try ServedCalls.sums(part, $0) }
            total += theirs.values.reduce(0) { $0 + $1.calls }
            var hours = Self.differing(theirs, ours)
            try await lookUp(&hours, in: part, take: take)
            found += hours.values.filter { !$0.isEqual }.sorted { $0.place < $1.place }
            start = end
        }
        return (total, found)
    }

    private static func differing(
        _ theirs: [HourOfKey.Place: HourOfKey.Sum], _ ours: [HourOfKey.Place: HourOfKey.Sum]
    ) -> [HourOfKey.Place: HourOfKey] {
        var hours: [HourOfKey.Place: HourOfKey] = [:]
        for place in Set(theirs.keys).union(ours.keys) where theirs[place] != ours[place] {
            var hour = HourOfKey(place: place)
            hour.litellm = theirs[place] ?? hour.litellm
            hour.here = ours[place] ?? hour.here
            hours[place] = hour
        }
        return hours
    }

    private func lookUp(
        _ hours: inout [HourOfKey.Place: HourOfKey], in range: Range<Timestamp>,
        take: ([IngestItem]) async throws -> Void
    ) async throws {
        let keys = Set(hours.values.filter { $0.litellm.calls > 0 }.map(\.place.keyHash)).sorted()
        guard !keys.isEmpty else { return }
        var cursor: String?
        repeat {
            let after = cursor
            let page = try await litellm.withConnection {
                try SpendLogs.page(range, in: schema, keys: keys, after: after, $0)
            }
            let calls = items(page.calls.filter { hours[$0.place] != nil })
            let places = try await pool.withConnection { try ServedCalls.find(calls, $0) }
            var missing: [IngestItem] = []
            for ((item, call), place) in zip(calls, places) {
                switch place {
                case .here: break
                case .aside: hours[call.place]?.aside += 1
                case .missing:
                    hours[call.place]?.missing += 1
                    missing.append(item)
                }
            }
            if !missing.isEmpty { try await take(missing) }
            cursor = page.next
        } while cursor != nil
    }

    /// The calls with their events, read as the webhook reads them.
    private func items(_ calls: [SpendLogs.Call]) -> [(item: IngestItem, call: SpendLogs.Call)] {
        guard !calls.isEmpty else { return [] }
        let body = "[" + calls.map(\.event).joined(separator: ",") + "]"
        let arrival = Arrival(at: now(), retention: retention, errorText: errorText)
        let parsed = EventParser.parse(Array(body.utf8), arrival: arrival)
        return zip(parsed.results, calls).map { (IngestItem($0), $1) }
    }
}
