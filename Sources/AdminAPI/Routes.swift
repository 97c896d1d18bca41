import Bootstrap
import HTTPSupport
import HTTPTypes
import Storage

/// Every route of admin-api: method, path, who may ask, and the operation that answers.
///
/// What `/openapi.json` says of an operation is declared beside its handler, in the controller, under the same name.
/// The name is also the `operationId`.
struct Routes: Sendable {
    let all: [Route]

    init(
        database: Database, queue: GroupCommit, signIn: SignInPolicy, takesReports: Bool = false,
        isBehindProxies: Bool, live: LiveHub? = nil
    ) {
        let live = live ?? LiveHub(database: database)
        let account = AuthController(database: database, signIn: signIn)
        let dashboard = DashboardController(database: database)
        let usage = UsageController(database: database, isBehindProxies: isBehindProxies)
        let reporting = UsageLogging(database: database, queue: queue, isOn: takesReports)
        let limits = RateLimitController(database: database)
        let models = ModelController(database: database)
        let settings = SettingsController(database: database, throttle: signIn.throttle)
        let me = MeController(database: database)
        let logs = LogController(database: database)
        let analytics = AnalyticsController(database: database)
        let stream = StreamController(live: live)
        let reads = SharedReads<RequestQuestion, APIResponse>()
        let users = AdminUserController(database: database, signIn: signIn)
        let plans = AdminPlanController(database: database)
        let prices = AdminModelController(database: database)
        let integrity = AdminIntegrityController(database: database)
        let quarantine = AdminQuarantineController(database: database)
        // A user who may do less now loses the streams that are open.
        let check: @Sendable (APIRequest) async throws -> Void = { await live.check(try $0.id()) }
        let routes = [
            Route(.post, "/api/auth/register", .anyone, account.register),
            Route(.post, "/api/auth/login", .anyone, account.logIn),
            Route(
                .post, "/api/auth/logout", .user, needing: nil,
                account.logOut.followed { await live.check(try $0.user.id) }),
            Route(.get, "/api/auth/me", .user, account.getAccount),
            Route(.get, "/api/dashboard/stats", .user, dashboard.getDashboardStats.shared(by: reads)),
            Route(.get, "/api/dashboard/usage", .user, dashboard.getDashboardUsage.shared(by: reads)),
            Route(.get, "/api/usage/logs", .user, usage.listUsageLogs),
            Route(.get, "/api/usage/analytics", .user, usage.getUsageAnalytics.shared(by: reads)),
            Route(.post, "/api/usage/export", .user, usage.exportUsageByPost),
            Route(.get, "/api/usage/export", .user, usage.exportUsage),
            Route(.post, "/api/usage/log", .user, reporting.reportUsage),
            Route(.get, "/api/rate-limits", .user, limits.getRateLimits),
            Route(.post, "/api/rate-limits/request-increase", .user, limits.requestIncrease),
            Route(.get, "/api/models", .user, models.listModels),
            Route(.post, "/api/models/favorite", .user, models.favorModel),
            Route(.get, "/api/settings", .user, needing: .key, settings.getSettings),
            Route(.post, "/api/settings/api-key/regenerate", .user, needing: .key, settings.regenerateKey),
            Route(.post, "/api/settings/update", .user, settings.updateSettings),

            Route(.get, "/api/v1/me", .user, me.getMe),
            Route(.get, "/api/v1/logs", .user, logs.listLogs),
            Route(.get, "/api/v1/logs/{id}", .user, logs.getLog),
            Route(.get, "/api/v1/analytics/summary", .user, analytics.getSummary.shared(by: reads)),
            Route(.get, "/api/v1/analytics/timeseries", .user, analytics.getTimeseries.shared(by: reads)),
            Route(.get, "/api/v1/analytics/breakdown", .user, analytics.getBreakdown.shared(by: reads)),
            Route(.get, "/api/v1/stream", .user, stream.getStream),

            Route(.get, "/api/v1/admin/users", .admin, users.listUsers),
            Route(.post, "/api/v1/admin/users", .admin, users.createUser),
            Route(.get, "/api/v1/admin/users/{id}", .admin, users.getUser),
            Route(.patch, "/api/v1/admin/users/{id}", .admin, users.updateUser.followed(by: check)),
            Route(.post, "/api/v1/admin/users/{id}/suspend", .admin, users.suspendUser.followed(by: check)),
            Route(.post, "/api/v1/admin/users/{id}/activate", .admin, users.activateUser),
            Route(.put, "/api/v1/admin/users/{id}/key", .admin, users.setUserKey),
            Route(.put, "/api/v1/admin/users/{id}/limits", .admin, users.setUserLimits),
            Route(.get, "/api/v1/admin/plans", .admin, plans.listPlans),
            Route(.put, "/api/v1/admin/plans/{plan}", .admin, plans.setPlanLimits),
            Route(.get, "/api/v1/admin/limit-requests", .admin, plans.listLimitRequests),
            Route(.post, "/api/v1/admin/limit-requests/{id}/answer", .admin, plans.answerLimitRequest),
            Route(.get, "/api/v1/admin/models", .admin, prices.listAllModels),
            Route(.post, "/api/v1/admin/models", .admin, prices.createModel),
            Route(.put, "/api/v1/admin/models/{id}", .admin, prices.updateModel),
            Route(.get, "/api/v1/admin/free-models", .admin, prices.listFreeModels),
            Route(.put, "/api/v1/admin/free-models", .admin, prices.setFreeModel),
            Route(.get, "/api/v1/admin/totals", .admin, integrity.getTotals),
            Route(.get, "/api/v1/admin/ledger/status", .admin, integrity.getRollupStatus),
            Route(.get, "/api/v1/admin/ledger/verify", .admin, integrity.verifyRollups),
            Route(.get, "/api/v1/admin/ledger/spools", .admin, integrity.listSpools),
            Route(.get, "/api/v1/admin/audit-log", .admin, integrity.listAuditLog),
            Route(.get, "/api/v1/admin/quarantine", .admin, quarantine.listQuarantine),
            Route(.get, "/api/v1/admin/quarantine/{key}", .admin, quarantine.getQuarantined),
            Route(.post, "/api/v1/admin/quarantine/replay", .admin, quarantine.replayQuarantined),
            Route(.post, "/api/v1/admin/quarantine/discard", .admin, quarantine.discardQuarantined),
        ]
        all = routes + [OpenAPIDocument.route(describing: routes)]
    }

    /// Health and metrics, for which nobody signs in.
    static func service(health: HealthController, metrics: PrometheusRegistry) -> [HTTPRoute] {
        [
            HTTPRoute(.get, "/health/live", .everyone, health.checkLiveness),
            HTTPRoute(.get, "/health/ready", .everyone, health.checkReadiness),
            HTTPRoute(.get, "/metrics", .allowedAddresses, metrics.getMetrics),
        ]
    }
}
