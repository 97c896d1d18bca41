import CLibPQ
import Logging

/// What went wrong between this process and PostgreSQL.
///
/// `description` says only the kind, and `String(reflecting:)` adds the SQL text and the names PostgreSQL reports.
/// Neither shows a parameter or the server's own message, which may quote one.
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

    package var kind: Kind
    /// The five characters of PostgreSQL's error code (PostgreSQL, Appendix A), if PostgreSQL answered.
    package var sqlState: String?
    package var constraint: String?
    package var table: String?
    package var column: String?
    /// Whether row-level security would have hidden rows from the statement, which was refused therefore. Like any
    /// refusal of a right its SQLSTATE is 42501; but the rows are there, and come back by an operator's hand alone.
    package var isRowSecurity = false
    /// The server's primary message when it has one, else ours. The server's may quote values: never for logs or
    /// clients.
    package var message: String
    /// The SQL text with its placeholders, without values.
    package var query: String?
    /// Whether the work certainly had no effect and may run again as it is.
    package var isSafeToRetry = false

    init(_ kind: Kind, _ message: String, query: String? = nil) {
        self.kind = kind
        self.message = message
        self.query = query
        isSafeToRetry = kind == .connectFailed
    }

    /// Whether the same work may succeed later as it is; after an operator's correction where row-level security
    /// refused it.
    package var isTransient: Bool {
        switch kind {
        case .connectFailed, .connectionLost, .leaseTimeout, .commitOutcomeUnknown, .poolClosed: true
        case .server: isRowSecurity || (sqlState.map(Self.isTransient(sqlState:)) ?? false)
        case .commitBecameRollback, .invalidParameter, .decoding, .cancelled, .invalidConfiguration, .misuse: false
        }
    }

    private static let transientStates: Set<String> = [
        "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "25006",
    ]

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
    /// Whether `message` was written by us or by libpq's connect, neither of which knows a parameter.
    fileprivate var hasOwnMessage: Bool {
        switch self {
        case .connectFailed, .leaseTimeout, .invalidParameter, .decoding, .poolClosed, .invalidConfiguration, .misuse:
            true
        case .connectionLost, .server, .commitBecameRollback, .commitOutcomeUnknown, .cancelled: false
        }
    }
}

/// Writes the server's notices to a log, at debug; libpq would print them to standard error.
final class NoticeLog {
    private let logger: Logger

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

    private func log(_ result: OpaquePointer) {
        func field(_ letter: Unicode.Scalar) -> String {
            PQresultErrorField(result, Int32(letter.value)).map { String(cString: $0) } ?? ""
        }
        logger.debug(
            "notice from PostgreSQL",
            metadata: ["severity": "\(field("V"))", "sqlState": "\(field("C"))", "notice": "\(field("M"))"])
    }
}
