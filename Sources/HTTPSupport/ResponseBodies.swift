internal import CZlib
internal import Dispatch
internal import Domain
internal import HTTPTypes
package import Hummingbird
package import NIOCore

/// Carries an answer from the thread that makes it to the client, at most a few chunks ahead. Memory does not grow with
/// the answer, and a slow client delays only its own answer.
package final class ChunkPipe: Sendable {
    /// Chunks in flight.
    private static let depth = 4
    /// The largest chunk. A client's progress is measured in chunks.
    private static let pieceBytes = 64 << 10

    /// How long a whole answer may take. It holds a connection and a snapshot, which keeps PostgreSQL from removing old
    /// rows.
    private static let limit = Duration.seconds(3600)

    private let end = ContinuousClock.now + limit
    /// How long a client may take for one chunk.
    private let timeout: Duration
    private let slots = DispatchSemaphore(value: depth)
    private let pieces: AsyncThrowingStream<ByteBuffer, any Error>
    private let continuation: AsyncThrowingStream<ByteBuffer, any Error>.Continuation

    private init(timeout: Duration) {
        self.timeout = timeout
        (pieces, continuation) = AsyncThrowingStream.makeStream()
    }

    /// Sends bytes. Blocks the calling thread, which is a database connection's own, until the client has caught up.
    ///
    /// - Throws: ``AppError`` `.timeout` when the client takes too long for one chunk, or the whole answer takes an
    ///   hour; `CancellationError` when the client is gone.
    package func send(_ bytes: [UInt8]) throws {
        var rest = ByteBuffer(bytes: bytes)
        while let piece = rest.readSlice(length: min(rest.readableBytes, Self.pieceBytes)), piece.readableBytes > 0 {
            guard slots.wait(timeout: .now() + .nanoseconds(Int(TimeAmount(timeout).nanoseconds))) == .success else {
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

    /// Writes what `produce` sends to `writer`, and ends the answer. When either fails, the other is cancelled and the
    /// connection is closed early, so that the client sees an incomplete answer.
    ///
    /// - Throws: What `produce` and `writer` throw.
    package static func stream(
        to writer: inout any ResponseBodyWriter, timeout: Duration,
        _ produce: @escaping @Sendable (ChunkPipe) async throws -> Void
    ) async throws {
        let pipe = ChunkPipe(timeout: timeout)
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
            // The producer must not wait for a client that is gone, and must not send any more. A semaphore that ends
            // below its first value stops the program.
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

extension Request {
    /// Whether `Accept-Encoding` takes gzip (RFC 9110 §12.5.3). A request without the header counts as one that does
    /// not.
    package var acceptsGzip: Bool {
        let weights = headers[values: .acceptEncoding].joined(separator: ",").split(separator: ",").map(Coding.init)
        let own = weights.first { ["gzip", "x-gzip"].contains($0.name) } ?? weights.first { $0.name == "*" }
        return own?.isTaken ?? false
    }
}

/// A content coding of `Accept-Encoding`, and whether it is accepted.
private struct Coding {
    let name: String
    let isTaken: Bool

    /// Reads `gzip;q=0.5`. A coding with an unreadable weight is not accepted.
    init(_ text: Substring) {
        let parts = text.lowercased().split(separator: ";").map(\.trimmingSpaces)
        name = parts.first.map(String.init) ?? ""
        let weight = parts.dropFirst().first { $0.hasPrefix("q=") }
        isTaken = weight.map { Double($0.dropFirst(2)) ?? 0 > 0 } ?? true
    }
}

extension ByteBuffer {
    /// The bytes as gzip; `nil` where compression saves nothing.
    package var gzipped: ByteBuffer? {
        guard readableBytes >= Self.worthwhile else { return nil }
        let compressed = GzipStream().compress(self, isLast: true)
        return compressed.readableBytes < readableBytes ? compressed : nil
    }

    /// Shorter answers fit into one network packet.
    private static let worthwhile = 1_400
}

extension ResponseBody {
    /// The same bytes as gzip. Each chunk is sent as soon as it is compressed.
    package var gzipped: ResponseBody {
        let body = self
        return ResponseBody { writer in try await body.write(GzipWriter(writer)) }
    }
}

/// Compresses what is written to a response body.
private struct GzipWriter: ResponseBodyWriter {
    /// Bytes compressed at one time, in well under a millisecond. The thread serves other requests too.
    private static let slice = 64 << 10

    private var writer: any ResponseBodyWriter
    private let stream = GzipStream()

    init(_ writer: any ResponseBodyWriter) {
        self.writer = writer
    }

    mutating func write(_ buffer: ByteBuffer) async throws {
        var rest = buffer
        while let piece = rest.readSlice(length: min(rest.readableBytes, Self.slice)), piece.readableBytes > 0 {
            try await writer.write(stream.compress(piece))
            await Task.yield()
        }
    }

    consuming func finish(_ trailingHeaders: HTTPFields?) async throws {
        try await writer.write(stream.compress(ByteBuffer(), isLast: true))
        try await writer.finish(trailingHeaders)
    }
}

/// A gzip stream (RFC 1952), compressed chunk by chunk in constant memory.
final class GzipStream {
    /// zlib's fastest level. For an export it makes a sixth more bytes than the default level, in a quarter of the
    /// time.
    private static let level: Int32 = 1
    /// The largest window, and gzip's frame around it (zlib.h, `deflateInit2`).
    private static let windowBits: Int32 = 15 + 16
    private static let memoryLevel: Int32 = 8
    /// What `Z_SYNC_FLUSH` adds to the bound that zlib states.
    private static let flushBytes = 16

    /// Allocated separately, because zlib keeps its address.
    private let state = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    init() {
        state.initialize(to: z_stream())
        let code = deflateInit2_(
            state, Self.level, Z_DEFLATED, Self.windowBits, Self.memoryLevel, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
            Int32(MemoryLayout<z_stream>.size))
        precondition(code == Z_OK, "zlib refuses to begin: \(code)")
    }

    deinit {
        deflateEnd(state)
        state.deallocate()
    }

    /// Compresses `piece`. A reader that has this and all output before it can decompress every byte so far.
    func compress(_ piece: ByteBuffer, isLast: Bool = false) -> ByteBuffer {
        guard isLast || piece.readableBytes > 0 else { return ByteBuffer() }
        let bound = Int(deflateBound(state, UInt(piece.readableBytes))) + Self.flushBytes
        var compressed = ByteBuffer()
        compressed.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { output in
            piece.withUnsafeReadableBytes { input in
                // zlib does not write to its input.
                state.pointee.next_in = UnsafeMutablePointer(
                    mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
                state.pointee.avail_in = UInt32(input.count)
                state.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
                state.pointee.avail_out = UInt32(output.count)
                let code = deflate(state, isLast ? Z_FINISH : Z_SYNC_FLUSH)
                precondition(
                    code == (isLast ? Z_STREAM_END : Z_OK) && state.pointee.avail_in == 0, "zlib stopped: \(code)")
                return output.count - Int(state.pointee.avail_out)
            }
        }
        return compressed
    }
}
