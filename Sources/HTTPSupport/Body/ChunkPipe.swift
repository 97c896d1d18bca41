internal import Dispatch
internal import Domain
package import Hummingbird
internal import NIOCore

/// Carries an answer from the thread that makes it to the client, a few pieces ahead at most: memory does not grow with the
/// answer, and a client that reads slowly slows its own answer only.
package final class ChunkPipe: Sendable {
    /// Pieces on their way.
    private static let depth = 4
    /// How long a client may read nothing before its answer is given up.
    private static let patience = DispatchTimeInterval.seconds(60)

    private let slots = DispatchSemaphore(value: depth)
    private let pieces: AsyncThrowingStream<ByteBuffer, any Error>
    private let continuation: AsyncThrowingStream<ByteBuffer, any Error>.Continuation

    private init() {
        (pieces, continuation) = AsyncThrowingStream.makeStream()
    }

    /// Hands a piece on; blocks the calling thread, which is a connection's own, while the client is behind.
    ///
    /// - Throws: ``AppError`` `.timeout` when the client reads nothing for a minute.
    package func send(_ bytes: [UInt8]) throws {
        guard !bytes.isEmpty else { return }
        guard slots.wait(timeout: .now() + Self.patience) == .success else {
            throw AppError(.timeout, "The client stopped reading.")
        }
        if case .terminated = continuation.yield(ByteBuffer(bytes: bytes)) { throw CancellationError() }
    }

    /// Writes what `produce` sends to `writer`, and ends the answer. When either fails the other is cancelled, and the connection
    /// is broken off: the client sees that the answer is not whole.
    package static func stream(
        to writer: inout any ResponseBodyWriter, _ produce: @escaping @Sendable (ChunkPipe) async throws -> Void
    ) async throws {
        let pipe = ChunkPipe()
        let producer = Task {
            do {
                try await produce(pipe)
                pipe.continuation.finish()
            } catch {
                pipe.continuation.finish(throwing: error)
            }
        }
        defer {
            producer.cancel()
            // Whoever waits for the client to read must not wait for one that is gone.
            for _ in 0..<depth { pipe.slots.signal() }
        }
        for try await piece in pipe.pieces {
            try await writer.write(piece)
            pipe.slots.signal()
        }
        try await writer.finish(nil)
    }
}
