package import Domain
package import Postgres

/// The months of `metering.events` that have a partition of their own; events of others go to the default one.
package enum EventPartitions {
    /// The months around the present one: a year of late events and a year ahead.
    private static let months: ClosedRange<Int64> = -13...12

    /// Makes the partitions that are missing around `now`; what is there stays as it is.
    ///
    /// One transaction a month, and none waits longer than 5 s: a lock that `pg_dump` holds must not queue ingest behind us.
    ///
    /// - Throws: ``PostgresError``, of SQLSTATE 55P03 when a lock was not free; the months made before stay.
    package static func ensure(_ connection: Connection, now: Timestamp) throws {
        for month in months {
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
