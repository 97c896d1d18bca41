package import Domain
package import Postgres

/// The months of `metering.events` that have a partition of their own; events of others go to the default one.
package enum EventPartitions {
    /// Months ahead of the present one, and behind it for late events.
    private static let ahead: Int64 = 12
    private static let behind: Int64 = 13

    /// Makes the partitions that are missing around `now`; what is there stays as it is.
    ///
    /// One transaction a month, and none waits longer than 5 s: a lock that `pg_dump` holds must not queue ingest behind us.
    ///
    /// Months that `retain` would drop again, after `retentionDays`, are not made.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when a lock was not free; the months made before stay.
    package static func ensure(_ connection: Connection, now: Timestamp, retentionDays: Int = .max) throws {
        for month in -min(behind, Int64(retentionDays / 31))...ahead {
            try connection.transaction { connection in
                try connection.executeScript("SET LOCAL lock_timeout = '5s'")
                try connection.execute(
                    """
                    SELECT metering.create_events_partition(
                        (date_trunc('month', \(now) AT TIME ZONE 'UTC') + \(month)::bigint * interval '1 month')::date)
                    """)
            }
        }
    }
}
