/// A setting that every session of ours needs as it is here, whatever the role, the database or the server says.
///
/// Our statements mean what they mean under these values. `ALTER ROLE … SET` and `ALTER DATABASE … SET` change the
/// defaults of a session, so each connection states them. Settings that only a superuser may change, such as
/// `session_replication_role`, are not here: a connection of an ordinary role would be refused. Those that make a
/// statement slower or refuse it, such as `enable_seqscan` and `default_transaction_read_only`, stay the operator's.
package struct SessionSetting: Sendable, Hashable {
    package let name: String
    package let value: String

    private init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }

    /// Those with one value for all sessions, in a fixed order.
    package static let pinned: [SessionSetting] = [
        // Rows that a policy hides are an error instead of rows that do not exist.
        SessionSetting("row_security", "off"),
        // PostgreSQL acknowledges a COMMIT that survives a crash.
        SessionSetting("synchronous_commit", "on"),
        // Each statement sees what was committed before it; a transaction that is to see one state says so itself.
        SessionSetting("default_transaction_isolation", "read committed"),
        SessionSetting("default_transaction_deferrable", "off"),
        // How statements and values are read.
        SessionSetting("array_nulls", "on"), SessionSetting("transform_null_equals", "off"),
        SessionSetting("standard_conforming_strings", "on"), SessionSetting("backslash_quote", "safe_encoding"),
        SessionSetting("xmloption", "content"),
        // How values are written.
        SessionSetting("timezone", "UTC"), SessionSetting("datestyle", "ISO, MDY"),
        SessionSetting("intervalstyle", "postgres"), SessionSetting("bytea_output", "hex"),
        SessionSetting("extra_float_digits", "1"), SessionSetting("quote_all_identifiers", "off"),
        SessionSetting("lc_numeric", "C"), SessionSetting("lc_monetary", "C"), SessionSetting("lc_time", "C"),
        // An error ends its statement, and neither the session nor an unused connection.
        SessionSetting("exit_on_error", "off"), SessionSetting("idle_session_timeout", "0"),
        SessionSetting("check_function_bodies", "on"), SessionSetting("client_min_messages", "notice"),
        // Statements that end within a second gain nothing: compiling the fold of 50,000 rows takes as long as the
        // fold.
        SessionSetting("jit", "off"),
    ]
}
