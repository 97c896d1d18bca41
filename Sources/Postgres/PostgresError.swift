import CLibPQ
import Logging

/// A failure between this process and PostgreSQL.
///
/// `description` shows only the kind, and `String(reflecting:)` adds the SQL text and the names that PostgreSQL
/// reports. Neither shows a parameter, nor the server's message, which may contain one.
package struct PostgresError: Error, Sendable {
    /// The kinds of failure that a caller can distinguish.
    package enum Kind: Sendable, Hashable {
        /// No connection could be opened; nothing was sent.
        case connectFailed
        /// The connection broke; what was sent outside a transaction may or may not have taken effect.
        case connectionLost
        /// No connection became free before the lease deadline.
        case leaseTimeout
        /// PostgreSQL refused a statement; see `sqlState`.
        case server
        /// COMMIT was answered with ROLLBACK: a statement had failed and its error was swallowed. Nothing was stored.
        case commitBecameRollback
        /// The connection broke during COMMIT of the transaction with this `xid8`, and its outcome is unknown.
        case commitOutcomeUnknown(String)
        /// PostgreSQL has committed, but was kept from waiting until a synchronous standby has the transaction too. It
        /// may be lost when that standby takes over.
        case replicationUnknown
        /// A parameter or the SQL text contains NUL, which PostgreSQL cannot store.
        case invalidParameter
        /// A column does not hold what the caller asked for.
        case decoding
        /// The task was cancelled.
        case cancelled
        /// The pool is shutting down.
        case poolClosed
        /// The connection settings cannot be understood.
        case invalidConfiguration
        /// The driver was called in a way that cannot work, such as a transaction inside a transaction.
        case misuse
    }

    /// The kind of failure.
    package var kind: Kind
    /// The five characters of PostgreSQL's error code (PostgreSQL, Appendix A), if PostgreSQL answered.
    package var sqlState: String?
    /// The violated constraint.
    package var constraint: String?
    /// The table of the error.
    package var table: String?
    /// The column of the error.
    package var column: String?
    /// Whether PostgreSQL refused the statement because row-level security would hide rows from it. Its SQLSTATE is
    /// 42501, as for a missing right. Only an operator can correct it.
    package var isRowSecurity = false
    /// The server's primary message, else ours. The server's may contain values, so it must not reach logs or clients.
    package var message: String
    /// The SQL text with its placeholders, without values.
    package var query: String?
    /// Whether the work certainly had no effect and may run again.
    package var isSafeToRetry = false

    init(_ kind: Kind, _ message: String, query: String? = nil) {
        self.kind = kind
        self.message = message
        self.query = query
        isSafeToRetry = kind == .connectFailed
    }

    /// Whether the same work may succeed later. After a refusal by row-level security it may, once an operator has
    /// corrected that.
    package var isTransient: Bool {
        switch kind {
        case .connectFailed, .connectionLost, .leaseTimeout, .commitOutcomeUnknown, .replicationUnknown, .poolClosed:
            true
        case .server: isRowSecurity || (sqlState.map(Self.isTransient(sqlState:)) ?? false)
        case .commitBecameRollback, .invalidParameter, .decoding, .cancelled, .invalidConfiguration, .misuse: false
        }
    }

    private static let transientStates: Set<String> = [
        "57P01", "57P02", "57P03", "40001", "40P01", "55P03", readOnly,
    ]

    /// Whether the server takes no writes now. Another one may, or the same one later.
    var isReadOnlyServer: Bool { sqlState == Self.readOnly }

    /// `read_only_sql_transaction` (PostgreSQL, Appendix A).
    static let readOnly = "25006"

    private static func isTransient(sqlState: String) -> Bool {
        transientStates.contains(sqlState) || sqlState.hasPrefix("08") || sqlState.hasPrefix("53")
    }
}

extension PostgresError: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String {
        switch kind {
        case .connectFailed: "cannot connect to PostgreSQL"
        case .connectionLost: "connection to PostgreSQL lost"
        case .leaseTimeout: "no database connection became free in time"
        case .server: "PostgreSQL refused a statement"
        case .commitBecameRollback: "transaction was rolled back at COMMIT"
        case .commitOutcomeUnknown: "connection lost in COMMIT, outcome unknown"
        case .replicationUnknown: "committed, but perhaps not on a standby"
        case .invalidParameter: "a value contains NUL"
        case .decoding: "a column has another type than expected"
        case .cancelled: "cancelled"
        case .poolClosed: "connection pool is closed"
        case .invalidConfiguration: "database settings are invalid"
        case .misuse: "database driver was used wrongly"
        }
    }

    package var debugDescription: String {
        let fields: [(String, String?)] = [
            ("message", kind.hasOwnMessage ? message : nil), ("sqlState", sqlState),
            ("cause", isRowSecurity ? "row-level security" : nil), ("constraint", constraint),
            ("table", table), ("column", column), ("query", query),
        ]
        let details = fields.compactMap { name, value in value.map { "\(name): \($0)" } }
        return details.isEmpty ? description : "\(description) (\(details.joined(separator: ", ")))"
    }

    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension PostgresError.Kind {
    /// Whether `message` is ours or is from libpq's connect. Neither contains a parameter.
    fileprivate var hasOwnMessage: Bool {
        switch self {
        case .connectFailed, .leaseTimeout, .invalidParameter, .decoding, .poolClosed, .invalidConfiguration, .misuse:
            true
        case .connectionLost, .server, .commitBecameRollback, .commitOutcomeUnknown, .replicationUnknown, .cancelled:
            false
        }
    }
}

/// Writes the server's notices to a log at level debug. libpq would print them to standard error.
final class NoticeLog {
    private let logger: Logger
    private var hasReplicationDoubt = false

    init(_ logger: Logger) {
        self.logger = logger
    }

    /// Receives the notices of `connection`, which must not outlive this object.
    func receive(from connection: OpaquePointer) {
        PQsetNoticeReceiver(
            connection,
            { context, result in
                guard let context, let result else { return }
                Unmanaged<NoticeLog>.fromOpaque(context).takeUnretainedValue().log(result)
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    /// Whether PostgreSQL has warned, since the last call, that a commit is perhaps not on a standby.
    func takeReplicationDoubt() -> Bool {
        defer { hasReplicationDoubt = false }
        return hasReplicationDoubt
    }

    private func log(_ result: OpaquePointer) {
        func field(_ letter: Unicode.Scalar) -> String {
            PQresultErrorField(result, Int32(letter.value)).map { String(cString: $0) } ?? ""
        }
        // The warning has no SQLSTATE of its own, and its words are translated (PostgreSQL, syncrep.c).
        if field("R") == "SyncRepWaitForLSN" { hasReplicationDoubt = true }
        logger.debug(
            "notice from PostgreSQL",
            metadata: ["severity": "\(field("V"))", "sqlState": "\(field("C"))", "notice": "\(field("M"))"])
    }
}
