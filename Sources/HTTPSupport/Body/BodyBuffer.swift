internal import NIOCore

/// One piece of memory for a whole body, with the zeroed bytes behind its end that simdjson reads past.
struct BodyBuffer: ~Copyable {
    /// simdjson's `SIMDJSON_PADDING`.
    static let padding = 64

    private var memory: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(capacity: Int) {
        memory = .allocate(byteCount: capacity + Self.padding, alignment: Self.padding)
    }

    deinit { memory.deallocate() }

    var capacity: Int { memory.count - Self.padding }

    /// Moves the body to a piece of `capacity` bytes, at least its length.
    mutating func grow(to capacity: Int) {
        let larger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: capacity + Self.padding, alignment: Self.padding)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<count]))
        memory.deallocate()
        memory = larger
    }

    /// Appends `chunk`, for which there is room.
    mutating func append(_ chunk: ByteBuffer) {
        precondition(chunk.readableBytes <= capacity - count)
        chunk.withUnsafeReadableBytes { bytes in
            UnsafeMutableRawBufferPointer(rebasing: memory[count...]).copyMemory(from: bytes)
        }
        count += chunk.readableBytes
    }

    /// The body; its padding is zeroed now, after the last byte came.
    func withBytes<T>(_ body: (UnsafeMutableRawBufferPointer) throws -> T) rethrows -> T {
        UnsafeMutableRawBufferPointer(rebasing: memory[count..<(count + Self.padding)]).initializeMemory(
            as: UInt8.self, repeating: 0)
        return try body(UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
    }
}
