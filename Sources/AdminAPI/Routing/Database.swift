import Domain
import HTTPSupport
import Postgres
import Storage
import Synchronization

/// The database as handlers ask it. Its failures become errors that a client may see.
struct Database: Sendable {
    let pool: ConnectionPool
    private let exports: ExportGate
    private let timeout: Duration

    /// `timeout` is how long a client may take for one chunk of an export.
    init(pool: ConnectionPool, exportsAtOnce: Int, timeout: Duration) {
        self.pool = pool
        self.timeout = timeout
        exports = ExportGate(limit: exportsAtOnce)
    }

    /// An answer to `user` with the batches that `read` finds in one state of the database, as `format` writes them.
    ///
    /// - Throws: ``AppError`` `.unavailable` when too many of them run, `.tooManyRequests` when too many of the user's
    ///   do.
    func export<Format: ExportFormat>(
        to user: Int64, as type: String, _ format: Format,
        _ read: @escaping @Sendable (Connection, (Format.Batch) throws -> Void) throws -> Void
    ) throws -> APIResponse {
        let place = try place(for: user)
        return APIResponse(
            content: .stream(type: type) { writer in
                try await ChunkPipe.stream(to: &writer, timeout: timeout) { pipe in
                    // A client that still reads what is already in flight holds no place.
                    defer { place.leave() }
                    // A transaction that is tried again would send its rows a second time.
                    let hasBegun = Atomic(false)
                    try await snapshot { connection in
                        guard !hasBegun.load(ordering: .relaxed) else { throw Self.interrupted }
                        try ExportRelay.send(format, to: pipe) { send in
                            try read(connection) { batch in
                                hasBegun.store(true, ordering: .relaxed)
                                try send(batch)
                            }
                        }
                    }
                }
            })
    }

    private static let interrupted = AppError(.unavailable, "The export was interrupted. Ask for it again.")

    /// A place for a read of `user` that takes long, among those of exports.
    ///
    /// - Throws: ``AppError`` `.unavailable`, `.tooManyRequests`.
    func place(for user: Int64) throws -> ExportGate.Place { try exports.enter(user) }

    /// Runs `body` on a connection.
    ///
    /// - Throws: ``AppError`` `.unavailable`, `.timeout`; what `body` throws.
    func read<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        try await mapping { try await pool.withConnection(body) }
    }

    /// Runs `body` in a transaction that sees one state of the database.
    func snapshot<T: Sendable>(_ body: @Sendable (Connection) throws -> T) async throws -> T {
        try await mapping { try await pool.transaction(.snapshot, body) }
    }

    private func mapping<T>(_ work: () async throws -> T) async throws -> T {
        do {
            return try await work()
        } catch let error as PostgresError where error.sqlState == "57014" {
            throw AppError(.timeout, "The database took too long. Ask for less, or again later.")
        } catch let error as PostgresError {
            throw AppError(error) ?? error
        }
    }
}
