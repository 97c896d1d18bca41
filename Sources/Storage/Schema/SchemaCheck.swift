package import Postgres

/// Compares Laravel's tables, as they are, with what our statements need of them (`design.md` §1.5).
///
/// The tables belong to Laravel and change with it, so a finding is something to report and to survive, not to repair.
package enum SchemaCheck {
    /// One difference that makes, or could make, rows impossible.
    package struct Finding: Sendable, Hashable, CustomStringConvertible {
        package enum Problem: Sendable, Hashable {
            case missing
            case otherType(found: String, needed: String)
            case tooNarrow(found: String, needed: String)
            /// NOT NULL without a default, and unknown to us: no row of ours can have it.
            case newAndMandatory
        }

        package let table: String
        package let column: String
        package let problem: Problem

        package var description: String {
            switch problem {
            case .missing: "\(table).\(column) is missing"
            case .otherType(let found, let needed): "\(table).\(column) is \(found), needed is \(needed)"
            case .tooNarrow(let found, let needed): "\(table).\(column) is \(found), narrower than \(needed)"
            case .newAndMandatory:
                "\(table).\(column) is new, NOT NULL and has no default: events wait in quarantine until it has one"
            }
        }
    }

    /// Every column of the tables we write or read that our statements could not work with.
    package static func findings(_ connection: Connection) throws -> [Finding] {
        let rows = try connection.query(
            """
            SELECT c.relname, a.attname, format_type(a.atttypid, NULL), a.atttypmod::bigint,
                   a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
            FROM pg_attribute a
            JOIN pg_class c ON c.oid = a.attrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'public' AND c.relname = ANY(\(LaravelColumn.tables)::text[])
              AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY c.relname, a.attnum
            """)
        let actual = try rows.map { row in
            let (table, name, type, modifier, isMandatory) = try row.decode(
                String.self, String.self, String.self, Int64.self, Bool.self)
            return ActualColumn(
                table: table, name: name, type: type, modifier: modifier, isMandatory: isMandatory)
        }
        let known = LaravelColumn.needed.compactMap { needed in
            needed.problem(of: actual.first { $0.table == needed.table && $0.name == needed.name })
                .map { Finding(table: needed.table, column: needed.name, problem: $0) }
        }
        let names = Set(LaravelColumn.needed.map { "\($0.table).\($0.name)" })
        let added = actual.filter { column in
            column.isMandatory && LaravelColumn.fed.contains(column.table)
                && !names.contains("\(column.table).\(column.name)")
        }.map { Finding(table: $0.table, column: $0.name, problem: .newAndMandatory) }
        return known + added
    }
}

/// A column as `pg_attribute` has it.
struct ActualColumn {
    let table: String
    let name: String
    let type: String
    /// `atttypmod`: length + 4 of a varchar, precision and scale of a numeric, -1 for none.
    let modifier: Int64
    let isMandatory: Bool
}
