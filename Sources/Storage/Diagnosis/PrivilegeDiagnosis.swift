import Postgres

/// Whether each role can do its work, and no more.
enum PrivilegeDiagnosis {
    /// The roles of `codexflow grants` that exist, and the connected one where it is none of them: that must suffice for all.
    static func findings(_ connection: Connection, rolePrefix: String) throws -> [Finding] {
        let known = Dictionary(
            uniqueKeysWithValues: DatabaseRole.allCases.map { ($0.name(prefix: rolePrefix), $0) })
        let there = try connection.query(
            """
            SELECT r.rolname::text, r.rolname = current_user FROM pg_roles r
            WHERE r.rolname = ANY(\(known.keys.sorted())::text[]) OR r.rolname = current_user ORDER BY 1
            """)
        let sessions = try services(connection)
        return try sessions
            + there.flatMap { row in
                let (user, isConnected) = try row.decode(String.self, Bool.self)
                let role = known[user]
                // An operator may do what the webhook may, and more.
                return try findings(of: user, as: role ?? .operator, isNamed: role != nil, connection)
                    + (isConnected ? hiddenSessions(user, connection) : [])
            }
    }

    /// Services that connect as a superuser now, or share a role: who breaks into one may do what the other may.
    private static func services(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT r.rolname::text, bool_or(r.rolsuper),
                   string_agg(DISTINCT a.application_name, ' and ' ORDER BY a.application_name),
                   count(DISTINCT a.application_name) > 1
            FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
            WHERE a.application_name IN ('webhook-api', 'admin-api', 'aggregation-worker')
              AND a.datname = current_database()
            GROUP BY r.rolname ORDER BY 1
            """)
        return try rows.compactMap { row in
            let (user, isSuperuser, names, areSeveral) = try row.decode(
                String.self, Bool.self, String.self, Bool.self)
            let remedy =
                "Run 'codexflow grants' and give each program the role made for it, with a password of its own."
            if isSuperuser {
                return .warning(
                    "privileges", "\(names) connects as the superuser \(user), who may do everything in the cluster",
                    remedy)
            }
            return areSeveral
                ? .warning("privileges", "\(names) connect as the same role, \(user)", remedy) : nil
        }
    }

    private static func findings(
        of user: String, as role: DatabaseRole, isNamed: Bool, _ connection: Connection
    ) throws -> [Finding] {
        let check = PrivilegeCheck(of: user)
        let lacks = try check.lacks(connection, for: role).map {
            Finding.failure("privileges", "\(user) lacks \($0)", $0.remedy)
        }
        let excess = try role == .owner ? [] : check.excess(connection)
        let surplus = try isNamed && role != .owner && excess.isEmpty ? check.surplus(connection, over: role) : []
        let strong = excess.map {
            Finding.warning(
                "privileges", "\(user) \($0)", "Run 'codexflow grants' and give each program the role made for it.")
        }
        let unneeded = surplus.map {
            Finding.warning(
                "privileges", "\(user) has \($0) without need", "Run the output of 'codexflow grants' with psql again.")
        }
        return (lacks + strong + unneeded).orOK("privileges", "\(user) has the rights of its work and no more")
    }

    private static func hiddenSessions(_ user: String, _ connection: Connection) throws -> [Finding] {
        let rows = try connection.query("SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')")
        guard try !rows[0].decode(0, as: Bool.self) else { return [] }
        return [
            .warning(
                "privileges", "\(user) does not see other sessions: open transactions stay hidden",
                "Run the doctor as the operator's role, or: GRANT pg_read_all_stats TO \(user.quotedIdentifier);")
        ]
    }
}
