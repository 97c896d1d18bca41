import HTTPTypes

/// Every page: method, path below the prefix, who may ask, and the page that answers.
struct PageTable: Sendable {
    let pages: [PageRoute]

    init(authenticator: Authenticator, signIn: SignInPolicy, live: LiveHub) {
        let entry = SignInPages(authenticator: authenticator, policy: signIn, live: live)
        let overview = OverviewPage(database: authenticator.database)
        let all = OperatorOverviewPage(database: authenticator.database)
        let users = UserPages(database: authenticator.database)
        let plans = PlanPages()
        let requests = LimitRequestPages(database: authenticator.database)
        let quarantine = QuarantinePages(database: authenticator.database)
        let health = HealthPage(
            examination: HealthExamination(pool: authenticator.database.pool, now: authenticator.now))
        let audit = AuditPage(database: authenticator.database)
        pages = [
            PageRoute(.get, "", .user, entry.choose),
            PageRoute(.get, "/sign-in", .anyone, entry.show),
            PageRoute(.post, "/sign-in", .anyone, entry.signIn),
            PageRoute(.post, "/sign-out", .user, entry.signOut),

            PageRoute(.get, "/overview", .user, overview.show),

            PageRoute(.get, "/operator", .admin, all.show),
            PageRoute(.get, "/operator/users", .admin, users.list),
            PageRoute(.post, "/operator/users", .admin, users.create),
            PageRoute(.get, "/operator/users/{id}", .admin, users.show),
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
        ]
    }
}
