import Postgres

/// Checks the sequences from which our ids and Laravel's come.
enum SequenceDiagnosis {
    /// Tables whose ids come from the sequence that Laravel's `bigserial` makes.
    private static let tables = ["users", "api_logs", "rate_limits", "personal_access_tokens", "models"]

    /// A sequence as the catalogs describe it.
    private struct Sequence {
        let table: String
        var name: String { "public.\(table)_id_seq" }
        let isThere: Bool
        let increment: Int64
        let isCycling: Bool
        let cache: Int64
        let maximum: Int64
        /// `pg_attribute.attidentity` of the column `id`.
        let identity: String
        /// Whether `id` takes its values from this sequence where a row states none.
        let isDefault: Bool
        /// The largest id of the table; `nil` where it cannot be read.
        var largest: Int64?
        var next: Int64?
    }

    static func findings(_ connection: Connection) throws -> [LaravelFinding] {
        try sequences(connection).flatMap { shape(of: $0) + position(of: $0) }
    }

    /// The `tables` whose sequence is below their largest id, as far as the role may read it.
    static func tooLow(_ connection: Connection, among tables: [String]) throws -> [String] {
        try sequences(connection).filter { tables.contains($0.table) && isTooLow($0) }.map(\.table)
    }

    /// The statement that sets the sequence of `table` to its largest id.
    static func setval(_ table: String) -> String {
        "SELECT setval('public.\(table)_id_seq', (SELECT max(id) FROM public.\(table)));"
    }

    private static func sequences(_ connection: Connection) throws -> [Sequence] {
        let rows = try connection.query(
            """
            SELECT c.relname::text, s.seqrelid IS NOT NULL, coalesce(s.seqincrement, 1), coalesce(s.seqcycle, false),
                   coalesce(s.seqcache, 1), coalesce(s.seqmax, 1), a.attidentity::text,
                   a.attidentity <> '' OR EXISTS (
                       SELECT FROM pg_attrdef f
                       JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                       WHERE f.adrelid = c.oid AND f.adnum = a.attnum AND d.refobjid = s.seqrelid),
                   has_column_privilege(c.oid, a.attnum, 'SELECT') AND NOT row_security_active(c.oid)
                   AND EXISTS (SELECT FROM pg_index x
                               WHERE x.indrelid = c.oid AND x.indisvalid AND (x.indkey::int2[])[0] = a.attnum)
                   -- So this never waits for a migration of Laravel.
                   AND NOT EXISTS (
                       SELECT FROM pg_locks k
                       WHERE k.relation = c.oid AND k.mode = 'AccessExclusiveLock'
                         AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
                   coalesce(has_sequence_privilege(s.seqrelid, 'SELECT'), false),
                   coalesce(has_sequence_privilege(s.seqrelid, 'USAGE'), false)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND NOT a.attisdropped
            LEFT JOIN pg_class q ON q.relnamespace = n.oid AND q.relname = c.relname || '_id_seq' AND q.relkind = 'S'
            LEFT JOIN pg_sequence s ON s.seqrelid = q.oid
            WHERE n.nspname = 'public' AND c.relname = ANY(\(tables)::text[]) AND c.relkind IN ('r', 'p')
              AND a.atttypid IN ('bigint'::regtype, 'integer'::regtype)
            ORDER BY array_position(\(tables)::text[], c.relname::text)
            """)
        return try rows.map { row in
            let table: String = try row.decode(0)
            var sequence = Sequence(
                table: table, isThere: try row.decode(1), increment: try row.decode(2), isCycling: try row.decode(3),
                cache: try row.decode(4), maximum: try row.decode(5), identity: try row.decode(6),
                isDefault: try row.decode(7))
            // The table is read before the sequence. So an id that is drawn meanwhile does not look too high.
            if sequence.isThere, try row.decode(8, as: Bool.self) {
                let ids: Query = "SELECT max(id)::bigint FROM public.\(unsafeSQL: table)"
                sequence.largest = try connection.query(ids)[0].decode(0, as: Int64?.self) ?? 0
            }
            let (isReadable, isUsable): (Bool, Bool) = (try row.decode(9), try row.decode(10))
            sequence.next = try next(of: sequence, isReadable: isReadable, isUsable: isUsable, connection)
            return sequence
        }
    }

    /// The next value, as far as the role may see it.
    private static func next(
        of sequence: Sequence, isReadable: Bool, isUsable: Bool, _ connection: Connection
    ) throws -> Int64? {
        if isReadable {
            let (last, isCalled) = try connection.query(
                "SELECT last_value, is_called FROM \(unsafeSQL: sequence.name)")[0].decode(Int64.self, Bool.self)
            return isCalled ? last.addingReportingOverflow(sequence.increment).partialValue : last
        }
        guard isUsable else { return nil }
        // Without a value nothing was drawn since it was set, and where it begins is not ours to see.
        let last = try connection.query("SELECT pg_sequence_last_value(\(sequence.name)::text::regclass)")[0]
        return try last.decode(0, as: Int64?.self).map {
            $0.addingReportingOverflow(sequence.increment).partialValue
        }
    }

    private static func isTooLow(_ sequence: Sequence) -> Bool {
        guard let largest = sequence.largest, let next = sequence.next, sequence.increment > 0 else { return false }
        return next <= largest
    }

    private static func shape(of sequence: Sequence) -> [LaravelFinding] {
        let (table, name) = (sequence.table, sequence.name)
        guard sequence.isThere else {
            return [
                LaravelFinding(
                    .failing, "The sequence of the ids of \(table) is missing",
                    meaning: "No row can be added to \(table).",
                    remedy: "CREATE SEQUENCE \(name) OWNED BY public.\(table).id; \(setval(table)) "
                        + "ALTER TABLE public.\(table) ALTER COLUMN id SET DEFAULT nextval('\(name)'); then the "
                        + "output of 'codexflow grants'.")
            ]
        }
        var findings = steps(of: sequence)
        if table == "api_logs" { findings += drawing(from: sequence) }
        if !sequence.isDefault {
            findings.append(
                LaravelFinding(
                    .risky, "The ids of \(table) do not come from its sequence any more",
                    meaning: "Rows that state no id and those that take it from the sequence may meet.",
                    remedy: "ALTER TABLE public.\(table) ALTER COLUMN id SET DEFAULT nextval('\(name)');"))
        }
        return findings
    }

    /// How the values follow each other.
    private static func steps(of sequence: Sequence) -> [LaravelFinding] {
        let (table, name) = (sequence.table, sequence.name)
        var findings: [LaravelFinding] = []
        if sequence.increment < 0 {
            findings.append(
                LaravelFinding(
                    .failing, "The ids of \(table) go down",
                    meaning: "New rows are taken for old ones, and sums miss them.",
                    remedy: "ALTER SEQUENCE \(name) INCREMENT BY 1 NO MINVALUE NO MAXVALUE; \(setval(table))"))
        } else if sequence.increment > 1 {
            findings.append(
                LaravelFinding(
                    .handled, "The ids of \(table) go up by \(sequence.increment)", meaning: "Nothing depends on it.",
                    remedy: "Nothing."))
        }
        if sequence.isCycling {
            findings.append(
                LaravelFinding(
                    .risky, "The sequence of the ids of \(table) begins again after its end",
                    meaning: "Ids would then belong to two rows.", remedy: "ALTER SEQUENCE \(name) NO CYCLE;"))
        }
        return findings
    }

    /// How ids of `api_logs` are drawn.
    private static func drawing(from sequence: Sequence) -> [LaravelFinding] {
        var findings: [LaravelFinding] = []
        if sequence.cache > 1 {
            findings.append(
                LaravelFinding(
                    .failing, "Sessions draw ids of api_logs in advance",
                    meaning:
                        "The next ids are unknown, so rollup passes stop. Answers stay right and become slow.",
                    remedy: "ALTER SEQUENCE \(sequence.name) CACHE 1;"))
        }
        if sequence.identity == "a" {
            findings.append(
                LaravelFinding(
                    .failing, "The ids of api_logs are always made by the table",
                    meaning: "A row with the id of its event is refused, so events wait.",
                    remedy: "ALTER TABLE public.api_logs ALTER COLUMN id SET GENERATED BY DEFAULT;"))
        }
        return findings
    }

    private static func position(of sequence: Sequence) -> [LaravelFinding] {
        let table = sequence.table
        if isTooLow(sequence) {
            let meaning =
                table == "api_logs"
                ? "The next ids are taken, so events wait until it has passed them."
                : "The next ids are taken, so new rows fail."
            return [
                LaravelFinding(
                    .failing, "The sequence of the ids of \(table) lies before its largest id", meaning: meaning,
                    remedy: setval(table))
            ]
        }
        if let next = sequence.next, sequence.increment > 0, next / 10 >= sequence.maximum / 10 - sequence.maximum / 100
        {
            return [
                LaravelFinding(
                    .risky, "The ids of \(table) are nearly used up",
                    meaning: "No row can be added after the last one.",
                    remedy:
                        "ALTER SEQUENCE \(sequence.name) AS bigint MAXVALUE 9223372036854775807; the column id "
                        + "must be bigint."
                )
            ]
        }
        return []
    }
}
