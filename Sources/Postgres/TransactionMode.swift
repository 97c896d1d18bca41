/// What a transaction may do and which state of the database it sees.
package enum TransactionMode: Sendable {
    /// Reads and writes; each statement sees what was committed before it.
    case readWrite
    /// Only reads, all of one state of the database.
    case snapshot

    /// Begins the transaction in one round trip, and asks for its mark if a lost COMMIT may have to be looked up.
    var begin: String {
        switch self {
        case .readWrite: TransactionMark.begin
        case .snapshot: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        }
    }
}
