import Postgres

/// Triggers and rules on Laravel's tables: they run in our statements and may change or swallow what we write.
enum TriggerDiagnosis {
    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        try triggers(connection) + rules(connection)
    }

    /// A disabled trigger does nothing. The bits are those of `pg_trigger.tgtype`.
    private static func triggers(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, t.tgname::text, t.tgfoid::regprocedure::text,
                   CASE WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END,
                   concat_ws(' or ', CASE WHEN t.tgtype & 4 <> 0 THEN 'INSERT' END, CASE WHEN t.tgtype & 16 <> 0 THEN 'UPDATE' END,
                             CASE WHEN t.tgtype & 8 <> 0 THEN 'DELETE' END, CASE WHEN t.tgtype & 32 <> 0 THEN 'TRUNCATE' END),
                   t.tgtype & 1 <> 0,
                   CASE t.tgenabled WHEN 'A' THEN ', enabled always' WHEN 'R' THEN ', enabled in replica sessions only' ELSE '' END,
                   t.tgenabled = 'A' OR (t.tgenabled = 'R') = (current_setting('session_replication_role') = 'replica'),
                   format('ALTER TABLE %I.%I DISABLE TRIGGER %I;', n.nspname, c.relname, t.tgname)
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
              AND NOT t.tgisinternal AND t.tgenabled <> 'D'
            ORDER BY c.relname, t.tgname
            """)
        return try rows.map { row in
            let table: String = try row.decode(0)
            let (name, function): (String, String) = (try row.decode(1), try row.decode(2))
            let (timing, events): (String, String) = (try row.decode(3), try row.decode(4))
            let (isForRows, mode): (Bool, String) = (try row.decode(5), try row.decode(6))
            let (isFiring, disable): (Bool, String) = (try row.decode(7), try row.decode(8))
            let level = isForRows ? "each row" : "each statement"
            let mayChange = timing != "AFTER" && isForRows
            let meaning =
                switch (isFiring, mayChange, table) {
                case (false, _, _): "It does not run in our sessions."
                case (true, true, "api_logs"):
                    "It may change or swallow the rows of events: an event counts as stored only when its row is there, "
                        + "and else waits."
                case (true, true, _): "It may change or swallow what we write there."
                case (true, false, _): "It runs inside our statements: its errors refuse them, and its time is theirs."
                }
            return LaravelFinding(
                isFiring ? .risky : .handled,
                "\(table) has a trigger that runs \(timing) \(events) for \(level)\(mode)",
                details: "\(name) calls \(function)", meaning: meaning,
                remedy: "See what it does. If our rows are none of its business: \(disable)")
        }
    }

    private static func rules(_ connection: Connection) throws -> [LaravelFinding] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, w.rulename::text, w.is_instead,
                   CASE w.ev_type WHEN '1' THEN 'SELECT' WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END,
                   format('DROP RULE %I ON %I.%I;', w.rulename, n.nspname, c.relname)
            FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelDiagnosis.tables)::text[])
              AND w.rulename <> '_RETURN' AND w.ev_enabled <> 'D'
            ORDER BY c.relname, w.rulename
            """)
        return try rows.map { row in
            let (table, name, isInstead, event, drop) = try row.decode(
                String.self, String.self, Bool.self, String.self, String.self)
            return LaravelFinding(
                event == "INSERT" && table == "api_logs" ? .failing : .risky,
                "\(table) has a rule that \(isInstead ? "replaces" : "adds to") \(event)", details: name,
                meaning: "What we write there may go elsewhere or be refused; events wait then.",
                remedy: "If it may go: \(drop)")
        }
    }
}
