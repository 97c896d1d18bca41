internal import Postgres
package import Storage

extension TestDatabase {
    /// Settings that any role may have by `ALTER ROLE` or `ALTER DATABASE`, each with a value that would change what
    /// statements mean, how values are written, or which plan is taken.
    package static let badSettings = [
        "array_nulls = off", "transform_null_equals = on", "standard_conforming_strings = off", "backslash_quote = on",
        "row_security = on", "timezone = 'Asia/Kathmandu'", "datestyle = 'SQL, DMY'", "intervalstyle = iso_8601",
        "bytea_output = escape", "extra_float_digits = -15", "quote_all_identifiers = on",
        "default_transaction_isolation = serializable", "default_transaction_deferrable = on",
        "synchronous_commit = off",
        "exit_on_error = on", "xmloption = document", "client_min_messages = debug5", "client_encoding = latin1",
        "lock_timeout = 1", "statement_timeout = 1", "idle_session_timeout = 1",
        "idle_in_transaction_session_timeout = 1",
        "search_path = public", "check_function_bodies = off", "enable_indexscan = off", "enable_hashjoin = off",
        "enable_seqscan = off", "enable_partition_pruning = off", "enable_sort = off", "force_parallel_mode = on",
        "plan_cache_mode = force_generic_plan", "from_collapse_limit = 1", "join_collapse_limit = 1", "work_mem = 64",
        "cursor_tuple_fraction = 1", "default_statistics_target = 1", "gin_fuzzy_search_limit = 1",
    ]

    /// Gives the role of a program, or every session of this database, the bad settings; tests of others see none of
    /// it.
    package func setBadly(_ role: DatabaseRole?) async throws {
        let whose = role.map { "ROLE \($0.name(prefix: TestRoles.prefix)) IN DATABASE \(name)" } ?? "DATABASE \(name)"
        let script = Self.badSettings.map { "ALTER \(whose) SET \($0);" }.joined(separator: "\n")
        try await pool.withConnection { try $0.executeScript(script) }
    }
}
