/// How many connections a pool may hold, and for how long.
package struct PoolLimits: Sendable {
    /// The most connections at once; the sum over all processes stays below the server's `max_connections`.
    package var maxConnections: Int
    /// How long work waits for a connection before it fails with kind `leaseTimeout`.
    package var leaseDeadline: Duration
    /// The age at which a connection is replaced, less up to a tenth at random so that they do not all go at once.
    package var maxLifetime: Duration
    /// After which an unused connection is closed.
    package var idleTimeout: Duration
    /// How often unused connections are looked at.
    package var maintenanceInterval: Duration

    package init(
        maxConnections: Int = 8, leaseDeadline: Duration = .seconds(5), maxLifetime: Duration = .seconds(3600),
        idleTimeout: Duration = .seconds(600), maintenanceInterval: Duration = .seconds(30)
    ) {
        self.maxConnections = max(1, maxConnections)
        self.leaseDeadline = leaseDeadline
        self.maxLifetime = maxLifetime
        self.idleTimeout = idleTimeout
        self.maintenanceInterval = maintenanceInterval
    }
}
