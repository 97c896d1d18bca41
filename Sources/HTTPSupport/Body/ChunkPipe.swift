internal import Dispatch
internal import Domain
package import Hummingbird
internal import NIOCore

/// Carries an answer from the thread that makes it to the client, a few pieces ahead at most: memory does not grow with the
/// answer, and a client that reads slowly slows its own answer only.
package final class ChunkPipe: Sendable {
    /// Pieces on their way.
    private static let depth = 4
    /// Bytes of a piece at most: by them a client's progress is measured.
    private static let pieceBytes = 64 << 10

    /// How long a whole answer may take: it holds a connection, and a state of the database that nothing is tidied behind.
    private static let limit = Duration.seconds(3600)

    private let end = ContinuousClock.now + limit
    /// How long a client may take over one piece before its answer is given up.
    private let patience: Duration
    private let slots = DispatchSemaphore(value: depth)
    private let pieces: AsyncThrowingStream<ByteBuffer, any Error>
    private let continuation: AsyncThrowingStream<ByteBuffer, any Error>.Continuation

    private init(patience: Duration) {
        self.patience = patience
        (pieces, continuation) = AsyncThrowingStream.makeStream()
    }

    /// Hands bytes on; blocks the calling thread, which is a connection's own, while the client is behind.
    ///
    /// - Throws: ``AppError`` `.timeout` when the client takes less than a piece for as long as one is patient, and when the answer
    ///   takes an hour.
    package func send(_ bytes: [UInt8]) throws {
        var rest = ByteBuffer(bytes: bytes)
        while let piece = rest.readSlice(length: min(rest.readableBytes, Self.pieceBytes)), piece.readableBytes > 0 {
            guard slots.wait(timeout: .now() + .nanoseconds(Int(TimeAmount(patience).nanoseconds))) == .success else {
                throw AppError(.timeout, "The client stopped reading.")
            }
            guard ContinuousClock.now < end else {
                slots.signal()
                throw AppError(.timeout, "The client took longer than an hour.")
            }
            if case .terminated = continuation.yield(piece) {
                slots.signal()
                throw CancellationError()
            }
        }
    }

    /// Writes what `produce` sends to `writer`, and ends the answer. When either fails the other is cancelled, and the connection
    /// is broken off: the client sees that the answer is not whole.
    package static func stream(
        to writer: inout any ResponseBodyWriter, patience: Duration,
        _ produce: @escaping @Sendable (ChunkPipe) async throws -> Void
    ) async throws {
        let pipe = ChunkPipe(patience: patience)
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
            // Whoever waits for the client to read must not wait for one that is gone, nor send anything more: a semaphore that
            // ends below its first value stops the program.
            pipe.continuation.finish()
            for _ in 0..<depth { pipe.slots.signal() }
        }
        for try await piece in pipe.pieces {
            try await writer.write(piece)
            pipe.slots.signal()
        }
        try await writer.finish(nil)
    }
}
