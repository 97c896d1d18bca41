import Postgres

/// Whether the roles of our programs have the settings of our sessions as their own defaults, for a pooler that ignores
/// what a connection states.
enum SettingsDiagnosis {
    private static let subject = "settings"

    static func findings(_ connection: Connection, rolePrefix: String) throws -> [Finding] {
        let pinned = SessionSetting.pinned
        let rows = try connection.query(
            """
            SELECT r.rolname::text, string_agg(p.name, ', ' ORDER BY p.number)
            FROM pg_roles r,
                 unnest(\(pinned.map(\.name))::text[], \(pinned.map(\.value))::text[]) WITH ORDINALITY AS p (name, value, number)
            WHERE r.rolname = ANY(\(DatabaseRole.allCases.map { $0.name(prefix: rolePrefix) })::text[])
              AND (SELECT lower(c.setting) FROM pg_db_role_setting s, unnest(s.setconfig) AS c (setting)
                   WHERE s.setrole = r.oid AND starts_with(lower(c.setting), lower(p.name) || '=')
                     AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                   ORDER BY s.setdatabase = 0 LIMIT 1) IS DISTINCT FROM lower(p.name || '=' || p.value)
            GROUP BY r.rolname ORDER BY r.rolname
            """)
        return try rows.map { row in
            let (role, names) = try row.decode(String.self, String.self)
            return .warning(
                subject,
                "\(role) has other defaults than our sessions: \(names). A pooler that ignores ours would use them",
                "Run the output of 'codexflow grants' with psql again, and take back what ALTER ROLE … IN DATABASE sets."
            )
        }.orOK(subject, "our sessions' settings are the defaults of our roles too")
    }
}
