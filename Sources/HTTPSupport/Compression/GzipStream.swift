internal import CZlib
internal import NIOCore

/// A gzip stream (RFC 1952), made piece by piece in constant memory.
final class GzipStream {
    /// zlib's quickest: of an export it makes a sixth more bytes than the usual level, in a quarter of its time.
    private static let level: Int32 = 1
    /// The largest window, and gzip's frame around it (zlib.h, `deflateInit2`).
    private static let windowBits: Int32 = 15 + 16
    private static let memoryLevel: Int32 = 8
    /// What `Z_SYNC_FLUSH` adds behind the bound that zlib states.
    private static let flushBytes = 16

    /// At an address of its own: zlib keeps it.
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

    /// What `piece` becomes; whoever has it and all before it can unpack every byte that was given.
    func compress(_ piece: ByteBuffer, isLast: Bool = false) -> ByteBuffer {
        guard isLast || piece.readableBytes > 0 else { return ByteBuffer() }
        let bound = Int(deflateBound(state, UInt(piece.readableBytes))) + Self.flushBytes
        var compressed = ByteBuffer()
        compressed.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { output in
            piece.withUnsafeReadableBytes { input in
                // zlib does not write to what it reads.
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
