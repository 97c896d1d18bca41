import Domain
import Postgres

/// Events that were stored before, found by their keys, those that were withdrawn since among them.
struct EventLookup {
    /// The row and the billable facts of one stored event.
    struct Stored {
        let logID: Int64
        let userID: Int64
        let billableDigest: Int64
    }

    private(set) var stored: [EventKey: Stored] = [:]

    init(_ keys: [EventKey], _ connection: Connection) throws {
        guard !keys.isEmpty else { return }
        let rows = try connection.query(
            """
            SELECT e.event_key::text, \(IDLine.id(of: "e.api_log_id")), e.user_id, e.billable_digest
            FROM unnest(\(keys.map(\.description))::uuid[]) AS k (event_key)
            JOIN metering.events e USING (event_key)
            UNION ALL
            SELECT w.event_key::text, \(IDLine.id(of: "w.api_log_id")), w.user_id, w.billable_digest
            FROM metering.withdrawn_events w WHERE w.event_key = ANY(\(keys.map(\.description))::uuid[])
            """)
        for row in rows {
            let (key, logID, user, digest) = try row.decode(String.self, Int64.self, Int64.self, Int64.self)
            guard let key = EventKey(key) else { continue }
            stored[key] = Stored(logID: logID, userID: user, billableDigest: digest)
        }
    }

    /// What a delivery of `event` is beside its stored twin; `nil` where there is none.
    ///
    /// A nameless event's key is random, so its twin is itself: an attempt of ours whose answer was lost. A name that a sender
    /// gave may meet another user's event of the same name.
    func verdict(of event: UsageEvent, attributedTo user: Int64?) -> Verdict? {
        guard let twin = stored[event.key] else { return nil }
        if !event.isIdempotent { return .stored(logID: twin.logID) }
        let isOthers = event.key.isIdempotencyKey && user != nil && user != twin.userID
        return twin.billableDigest == event.billableDigest && !isOthers
            ? .duplicate(logID: twin.logID) : .conflict(logID: twin.logID)
    }
}
