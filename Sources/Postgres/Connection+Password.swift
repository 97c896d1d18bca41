import CLibPQ

extension Connection {
    /// What `ALTER ROLE … PASSWORD` may be given instead of `password`, made on our side: a SCRAM verifier (RFC 5803).
    /// So the password itself is in no statement, which the server may log. It does not depend on the role.
    ///
    /// Throws kind `invalidParameter` where libpq makes none.
    package func verifier(ofPassword password: String) throws -> String {
        guard !password.utf8.contains(0), let verifier = PQencryptPasswordConn(handle, password, "", "scram-sha-256")
        else { throw PostgresError(.invalidParameter, "the password cannot be used") }
        defer { PQfreemem(verifier) }
        return String(cString: verifier)
    }
}
