import Storage

/// Every route of the service; health and metrics come with the server.
struct Routes: Sendable {
    let all: [Endpoint]

    init(
        database: Database, queue: GroupCommit, signIn: SignInPolicy, takesReports: Bool = false,
        isBehindProxies: Bool
    ) {
        let laravels =
            AuthController(database: database, signIn: signIn).endpoints
            + DashboardController(database: database).endpoints
            + UsageController(database: database, isBehindProxies: isBehindProxies).endpoints
            + UsageLogging(database: database, queue: queue, isOn: takesReports).endpoints
            + RateLimitController(database: database).endpoints
            + ModelController(database: database).endpoints
            + SettingsController(database: database, throttle: signIn.throttle).endpoints
        let ours =
            MeController(database: database).endpoints + LogController(database: database).endpoints
            + AnalyticsController(database: database).endpoints
        let administrators =
            AdminUserController(database: database, signIn: signIn).endpoints
            + AdminPlanController(database: database).endpoints + AdminModelController(database: database).endpoints
            + AdminIntegrityController(database: database).endpoints
            + AdminSpoolController(database: database).endpoints
            + AdminQuarantineController(database: database).endpoints
        let routes = laravels + ours + administrators
        all = routes + [OpenAPIDocument.endpoint(describing: routes)]
    }
}
