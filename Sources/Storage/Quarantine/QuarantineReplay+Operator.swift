package import Domain
import Postgres

extension QuarantineReplay {
    /// What a replay by an operator may do.
    package struct Options: Sendable, Hashable {
        /// Whether entries are tried that were answered 404 and have no key of their own. Their sender may have sent them again
        /// as other events: then they count twice.
        package var includesRefused = false
        /// Whether nothing is changed: the verdicts are those of a transaction that is undone.
        package var isDryRun = false

        package init(includesRefused: Bool = false, isDryRun: Bool = false) {
            self.includesRefused = includesRefused
            self.isDryRun = isDryRun
        }
    }

    /// What became of one entry.
    package enum Outcome: Sendable, Hashable {
        /// What a delivery of the event would have been told; `quarantined` leaves it where it is.
        case verdict(Verdict)
        /// Not tried: an event put aside for this reason never becomes a row.
        case neverARow
        /// Not tried: its sender saw a 404 and may have sent it again, and the options do not include such entries.
        case wasRefused
        /// Not tried: its facts were written by another version and cannot be read by this one.
        case unreadableFacts
        /// Not tried: stored or discarded before, or meanwhile.
        case resolvedBefore
    }

    /// Some entries and what became of them.
    package struct Page: Sendable {
        package let outcomes: [(item: QuarantinedItem, outcome: Outcome)]
        /// Where the next page begins; `nil` after the last.
        package let next: EventKey?
    }

    /// Tries the next entries that `filter` means at once, due or not, through the same path as a delivery, in one transaction.
    ///
    /// - Throws: ``AppError`` `.notFound` when there is no entry `cursor`; ``PostgresError``; ``Installation/Mismatch``.
    package func replay(
        _ filter: QuarantineFilter, after cursor: EventKey? = nil, limit: Int = 1_000, options: Options
    ) async throws -> Page {
        let items = try await pool.withConnection { try Quarantine.list(filter, after: cursor, limit: limit, $0) }
        let tried = items.filter { options.obstacle(to: $0) == nil }
        let verdicts = try await verdicts(of: tried, isDryRun: options.isDryRun)
        return Page(
            outcomes: items.map { item in
                (item, options.obstacle(to: item) ?? verdicts[item.id].map(Outcome.verdict) ?? .resolvedBefore)
            },
            next: items.count < limit ? nil : items.last?.id)
    }

    private func verdicts(of items: [QuarantinedItem], isDryRun: Bool) async throws -> [EventKey: Verdict] {
        guard !items.isEmpty else { return [:] }
        let filter = QuarantineFilter(ids: items.map(\.id))
        let transaction = ReplayTransaction(waits: true, looksAtUsers: true, isDryRun: isDryRun)
        return try await transaction.run(writer) { connection, _ in
            // Read again under the lock: what was resolved meanwhile is not tried.
            try Quarantine.list(filter, limit: items.count, connection).compactMap(\.event)
        } ?? [:]
    }
}

extension QuarantineReplay.Options {
    /// Why an entry is not tried, if it is not.
    fileprivate func obstacle(to item: QuarantinedItem) -> QuarantineReplay.Outcome? {
        if item.resolution != nil { return .resolvedBefore }
        if !item.reason.canBecomeRow { return .neverARow }
        if item.wasRefused, !includesRefused { return .wasRefused }
        return item.event == nil ? .unreadableFacts : nil
    }
}
