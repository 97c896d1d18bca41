import Postgres

/// Checks that each role has the rights for its work and no others.
enum PrivilegeDiagnosis {
    /// Checks the existing roles of `codexflow grants`. A connected role that is none of them must have the rights of
    /// all.
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
                // An operator has the rights of the webhook and more.
                return try findings(of: user, as: role ?? .operator, isNamed: role != nil, connection)
                    + (isConnected ? hiddenSessions(user, connection) : [])
            }
    }

    /// Services that connect as a superuser or share a role. An intruder in one of them gets the rights of the other.
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

/// Checks whether code of another role could run with the rights of our roles or of Laravel's.
///
/// PostgreSQL looks for a function in all schemas of the search path and takes the one that fits the arguments best.
/// A role that may create in one of them can offer a better-fitting `lower`, which runs with the caller's rights.
enum SearchPathDiagnosis {
    private static let subject = "search path"
    private static let again = "Run the output of 'codexflow grants' with psql again."

    static func findings(_ connection: Connection, rolePrefix: String) throws -> [Finding] {
        try
            (openSchemas(connection) + planted(connection) + paths(connection, rolePrefix)
            + foreignParts(connection) + foreignTriggers(connection))
            .orOK(subject, "nobody else's functions are found by our roles, nor may everyone create in a schema")
    }

    /// Schemas in which everyone may create.
    private static func openSchemas(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT n.nspname::text, format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC;', n.nspname) FROM pg_namespace n
            WHERE n.nspname !~ '^pg_' AND has_schema_privilege('public', n.oid, 'CREATE') ORDER BY 1 LIMIT 10
            """)
        return try rows.map { row in
            let (schema, remedy) = try row.decode(String.self, String.self)
            return .warning(
                subject,
                "every role may create in the schema \(schema), and a caller with it in the search path runs that",
                "Run the output of 'codexflow grants' with psql again, or: \(remedy)")
        }
    }

    /// Functions and operators, outside extensions, that have a name of PostgreSQL's own.
    private static func planted(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT count(*), string_agg(p.what, ', ' ORDER BY p.number) FILTER (WHERE p.number <= 3),
                   min(p.remedy) FILTER (WHERE p.number = 1)
            FROM (
                SELECT a.*, row_number() OVER (ORDER BY a.what) AS number
                FROM (
                    SELECT p.oid::regprocedure || ' of ' || pg_get_userbyid(p.proowner) AS what,
                           'DROP '
                           || CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' WHEN 'a' THEN 'AGGREGATE ' ELSE 'FUNCTION ' END
                           || p.oid::regprocedure || ';' AS remedy, p.oid, 'pg_proc'::regclass AS class
                    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(temp|toast)'
                      AND p.proname IN (
                          SELECT s.proname FROM pg_proc s WHERE s.pronamespace = 'pg_catalog'::regnamespace)
                    UNION ALL
                    SELECT 'operator ' || o.oid::regoperator || ' of ' || pg_get_userbyid(o.oprowner),
                           'DROP OPERATOR ' || o.oid::regoperator || ';', o.oid, 'pg_operator'::regclass
                    FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
                    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(temp|toast)'
                      AND o.oprname IN (
                          SELECT s.oprname FROM pg_operator s WHERE s.oprnamespace = 'pg_catalog'::regnamespace)
                ) a
                WHERE NOT EXISTS (SELECT FROM pg_depend d
                                  WHERE d.classid = a.class AND d.objid = a.oid AND d.deptype = 'e')
            ) p
            """)
        let (count, names, remedy) = try rows[0].decode(Int.self, String?.self, String?.self)
        guard let names, let remedy else { return [] }
        let more = count > 3 ? " and \(count - 3) more" : ""
        return [
            .warning(
                subject, "\(names)\(more) has the name of one of PostgreSQL's own functions or operators",
                "See who made it and why, then \(remedy) Our roles do not find it; Laravel and psql do, and run it.")
        ]
    }

    /// Our roles whose sessions have more than `pg_catalog` in their search path, and this session if a pooler dropped
    /// its setting.
    private static func paths(_ connection: Connection, _ rolePrefix: String) throws -> [Finding] {
        let names = DatabaseRole.allCases.map { $0.name(prefix: rolePrefix) }
        let path = ConnectionConfiguration.pinnedSearchPath
        let rows = try connection.query(
            """
            SELECT r.rolname::text FROM pg_roles r
            WHERE r.rolname = ANY(\(names)::text[])
              AND (SELECT substr(c.setting, 13) FROM pg_db_role_setting s, unnest(s.setconfig) AS c (setting)
                   WHERE s.setrole = r.oid AND c.setting LIKE 'search_path=%'
                     AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                   ORDER BY s.setdatabase = 0 LIMIT 1) IS DISTINCT FROM \(path)
            ORDER BY 1
            """)
        let roles = try rows.map { try $0.decode(0, as: String.self) }.map {
            Finding.warning(
                subject, "\($0)'s search_path is not \(path): a pooler that ignores ours would use it", again)
        }
        let session = try connection.query("SELECT current_setting('search_path'), current_user::text")[0]
        let (own, user) = try session.decode(String.self, String.self)
        guard own != path, names.contains(user) else { return roles }
        return roles + [
            .failure(
                subject, "this connection's search_path is \(own), not \(path): something takes the setting away",
                "\(again) Then have the pooler keep the start-up parameter 'options', or no search_path of its own.")
        ]
    }

    /// Our objects that use a foreign function, operator or type, because it was found first when they were made.
    private static func foreignParts(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0), pg_describe_object(d.refclassid, d.refobjid, 0)
            FROM pg_depend d
            LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
            LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
            LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
            LEFT JOIN pg_class c ON c.oid = coalesce(w.ev_class, f.adrelid, k.conrelid,
                                                     CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid END)
            LEFT JOIN pg_proc u ON d.classid = 'pg_proc'::regclass AND u.oid = d.objid
            LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
            LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
            LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
            LEFT JOIN pg_namespace n ON n.oid = coalesce(p.pronamespace, o.oprnamespace, t.typnamespace)
            WHERE n.nspname NOT IN ('pg_catalog', 'metering')
              AND (coalesce(c.relnamespace, u.pronamespace) IN (
                       SELECT m.oid FROM pg_namespace m WHERE m.nspname = 'metering')
                   OR c.relname ~ '^metering_')
            ORDER BY 1, 2 LIMIT 10
            """)
        return try rows.map { row in
            let (ours, theirs) = try row.decode(String.self, String.self)
            return .failure(
                subject, "our \(ours) calls \(theirs), which is not PostgreSQL's",
                "Somebody made it before our schema was made. Stop the services, drop it, and make \(ours) again.")
        }
    }

    /// Triggers on Laravel's tables whose function belongs neither to the owner of the table nor to a superuser. They
    /// run as our roles when we write.
    private static func foreignTriggers(_ connection: Connection) throws -> [Finding] {
        let tables = Grant.table.filter { $0.kind == .table && !$0.isOurs }.map { String($0.name.dropFirst(7)) }
        let rows = try connection.query(
            """
            SELECT format('%I on %I.%I calls %s of %s', t.tgname, n.nspname, c.relname, t.tgfoid::regprocedure,
                          pg_get_userbyid(p.proowner)),
                   format('DROP TRIGGER %I ON %I.%I;', t.tgname, n.nspname, c.relname)
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_roles r ON r.oid = p.proowner
            WHERE n.nspname = 'public' AND c.relname = ANY(\(tables)::text[]) AND NOT t.tgisinternal
              AND p.proowner <> c.relowner AND NOT r.rolsuper
            ORDER BY 1 LIMIT 10
            """)
        return try rows.map { row in
            let (what, remedy) = try row.decode(String.self, String.self)
            return .warning(
                subject, "the trigger \(what), who owns neither: it runs with the rights of our roles when they write",
                "See who made it and why, then \(remedy)")
        }
    }
}
