import Postgres

/// The raw rows of some days, found without reading the others.
extension UsageRange {
    /// Quarters by which the start in an event's key may be later than the event, clamped to its arrival (`design.md` §4):
    /// 24 hours, and one for the clock.
    private static let clampedQuarters = 25 * 4

    /// A query of what the rows before the cursors contribute to these quarters.
    func facts(_ cursor: UsageCursor) -> Query {
        "\(facts(of: .events, through: cursor.events)) UNION ALL \(facts(of: .others, through: cursor.others))"
    }

    /// A query of what the rows of `kind`, up to the id `through`, contribute to these quarters.
    func facts(of kind: UsageKind, through: Int64) -> Query {
        let isNear: Query =
            switch kind {
            case .events: isNear(key: "f.event_key")
            case .others: isNear(writtenAt: "f.written_at")
            }
        return """
            SELECT f.* FROM \(kind.facts(after: 0, through: through)) f
            WHERE \(isNear) AND \(contains(quarter: "metering.quarter_of(f.occurred_at)")) AND \(contains(user: "f.user_id"))
            """
    }

    /// Whether an event of the column `key` may have occurred in these quarters; a key that its sender named always may.
    func isNear(key: Query) -> Query {
        guard let bounds = bounds(upTo: Self.clampedQuarters) else { return "true" }
        return """
            (\(key) >= metering.event_key_floor(\(bounds.from)) AND \(key) < metering.event_key_floor(\(bounds.to))
             OR \(key) >= 'ffff0000-0000-0000-0000-000000000000')
            """
    }

    /// Whether a row of `api_logs` written at the column `moment` may count in these quarters.
    func isNear(writtenAt moment: Query) -> Query {
        guard let bounds = bounds(upTo: 0) else { return "true" }
        return "(\(moment) >= \(bounds.from) AT TIME ZONE 'UTC' AND \(moment) < \(bounds.to) AT TIME ZONE 'UTC')"
    }

    /// The moments around the quarters and `more`; `nil` without an end, and where rows stand whose time is none.
    private func bounds(upTo more: Int) -> (from: Query, to: Query)? {
        guard quarters.lowerBound > 0, quarters.upperBound < Self.allQuarters.upperBound else { return nil }
        let end = min(quarters.upperBound + more, Self.allQuarters.upperBound)
        return (Self.start(quarters.lowerBound), Self.start(end))
    }

    private static func start(_ quarter: Int) -> Query { "metering.quarter_start(\(quarter)::integer)" }

    /// With whole months around it, as far as a counter's window reaches that touches it.
    var widenedByMonths: UsageRange {
        let month = 31 * Self.quartersOfDay
        let low = max(quarters.lowerBound, Self.allQuarters.lowerBound + month) - month
        let high = min(quarters.upperBound, Self.allQuarters.upperBound - month) + month
        return UsageRange(quarters: low..<high, user: user)
    }
}
