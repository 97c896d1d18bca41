import HTTPTypes

/// Every page: method, path below the prefix, who may ask, and the page that answers.
struct PageTable: Sendable {
    let pages: [PageRoute]

    init(authenticator: Authenticator, signIn: SignInPolicy, live: LiveHub, proxy: String?) {
        let entry = SignInPages(authenticator: authenticator, policy: signIn, live: live)
        let all = OperatorOverviewPage(database: authenticator.database)
        let users = UserPages(database: authenticator.database)
        let plans = PlanPages()
        let requests = LimitRequestPages(database: authenticator.database)
        let quarantine = QuarantinePages(database: authenticator.database)
        let health = HealthPage(
            examination: HealthExamination(pool: authenticator.database.pool, now: authenticator.now))
        let audit = AuditPage(database: authenticator.database)
        let example = CallExample(proxy: proxy)
        let overview = OverviewPage(database: authenticator.database, example: example)
        let key = KeyPage(example: example)
        let ownLogs = LogPages(database: authenticator.database, isOfAllUsers: false)
        let allLogs = LogPages(database: authenticator.database, isOfAllUsers: true)
        pages = [
            PageRoute(.get, "", .user, entry.choose),
            PageRoute(.get, "/sign-in", .anyone, entry.show),
            PageRoute(.post, "/sign-in", .anyone, entry.signIn),
            PageRoute(.post, "/sign-out", .user, entry.signOut),

            PageRoute(.get, "/overview", .user, isLive: true, overview.show),
            PageRoute(.post, "/overview/limit-requests", .user, overview.requestLimits),
            PageRoute(.get, "/logs", .user, isLive: true, ownLogs.list),
            PageRoute(.get, "/logs.csv", .user, ownLogs.export),
            PageRoute(.get, "/logs/{id}", .user, ownLogs.show),
            PageRoute(.get, "/key", .user, key.show),
            PageRoute(.post, "/key/rotate", .user, key.rotate),

            PageRoute(.get, "/operator", .admin, isLive: true, all.show),
            PageRoute(.get, "/operator/users", .admin, isLive: true, users.list),
            PageRoute(.post, "/operator/users", .admin, users.create),
            PageRoute(.get, "/operator/users/{id}", .admin, isLive: true, users.show),
            PageRoute(.post, "/operator/users/{id}", .admin, users.change),

            PageRoute(.get, "/operator/plans", .admin, plans.show),
            PageRoute(.post, "/operator/plans", .admin, plans.change),
            PageRoute(.get, "/operator/requests", .admin, requests.show),
            PageRoute(.post, "/operator/requests", .admin, requests.answer),
            PageRoute(.get, "/operator/quarantine", .admin, quarantine.show),
            PageRoute(.post, "/operator/quarantine", .admin, quarantine.change),
            PageRoute(.get, "/operator/quarantine/{key}", .admin, quarantine.showOne),
            PageRoute(.get, "/operator/health", .admin, health.show),
            PageRoute(.get, "/operator/audit", .admin, audit.show),
            PageRoute(.get, "/operator/logs", .admin, isLive: true, allLogs.list),
            PageRoute(.get, "/operator/logs.csv", .admin, allLogs.export),
            PageRoute(.get, "/operator/logs/{id}", .admin, allLogs.show),
        ]
    }
}
