/// What tells a transaction from all others, so that a COMMIT whose answer was lost can be looked up.
struct TransactionMark: Sendable, Hashable {
    /// The `xid8`.
    let id: String
    /// When the server last recovered from a crash.
    ///
    /// A crash loses what was not yet written, transaction ids included, and the server gives them out again: without this,
    /// another transaction's `committed` would be taken for ours (`make faults` lost 62 acknowledged events that way). The
    /// statistics are reset by every recovery (PostgreSQL manual, "The Cumulative Statistics System"); a reset by hand only
    /// makes an outcome unknown.
    let epoch: String?

    /// Begins a transaction and answers its mark, in one round trip.
    static let begin = "BEGIN; SELECT pg_current_xact_id(), (SELECT stats_reset FROM pg_stat_bgwriter)"

    /// Asks how the transaction ended: whether no crash came between, and the status. After a crash an id that is not yet given
    /// out again belongs to nobody.
    var lookup: Query {
        """
        SELECT now.is_same, CASE WHEN now.is_same OR \(id)::xid8 < pg_snapshot_xmax(pg_current_snapshot())
                                 THEN pg_xact_status(\(id)::xid8) ELSE 'aborted' END
        FROM (SELECT stats_reset::text IS NOT DISTINCT FROM \(epoch as String?) AS is_same FROM pg_stat_bgwriter) now
        """
    }
}
