import CZlib
import HTTPTypes
import Hummingbird
import NIOCore
import Testing

@testable import HTTPSupport

/// Answers are compressed with gzip for clients that accept it.
@Suite(.timeLimit(.minutes(30))) struct CompressionTests {
    static let encodings: [(String?, Bool)] = [
        (nil, false), ("", false), ("gzip", true), ("GZip", true), ("x-gzip", true), ("identity", false),
        ("br, gzip;q=0.1", true), ("gzip ; q=1.0", true), ("gzip;q=0", false), ("gzip; q=0.000, *", false),
        ("*", true), ("*;q=0", false), ("identity, *;q=0.5", true), ("gzip;q=much", false), ("deflate, br", false),
    ]

    @Test(arguments: encodings.indices) func anAcceptEncodingDecides(index: Int) {
        let (value, isTaken) = Self.encodings[index]
        var head = HTTPRequest(method: .get, scheme: nil, authority: nil, path: "/")
        head.headerFields[.acceptEncoding] = value
        let request = Request(head: head, body: RequestBody(buffer: ByteBuffer()))
        #expect(request.acceptsGzip == isTaken, "\(value ?? "-")")
    }

    @Test func smallOrDenseAnswersAreNotCompressed() {
        #expect(ByteBuffer(string: String(repeating: "x", count: 1_399)).gzipped == nil)
        #expect(ByteBuffer(bytes: (0..<5_000).map { _ in UInt8.random(in: .min ... .max) }).gzipped == nil)
        let text = ByteBuffer(string: String(repeating: "x,", count: 50_000))
        let compressed = text.gzipped
        #expect((compressed?.readableBytes ?? .max) < 1_000)
        #expect(compressed.map(unpacked) == text)
    }

    /// Every piece can be read when it comes: the first one is not held back for the second.
    @Test func aStreamIsReadableAfterEachPiece() {
        let stream = GzipStream()
        let pieces = [1, 70_000, 3, 200_000].map { count in
            ByteBuffer(bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) })
        }
        var (given, sent) = (ByteBuffer(), ByteBuffer())
        for piece in pieces {
            given.writeImmutableBuffer(piece)
            sent.writeImmutableBuffer(stream.compress(piece))
            #expect(unpacked(sent) == given)
        }
        #expect(stream.compress(ByteBuffer()).readableBytes == 0)
        sent.writeImmutableBuffer(stream.compress(ByteBuffer(), isLast: true))
        #expect(unpacked(sent) == given)
    }

    /// What of `bytes` a reader knows.
    private func unpacked(_ bytes: ByteBuffer) -> ByteBuffer {
        let state = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        state.initialize(to: z_stream())
        defer { state.deallocate() }
        #expect(inflateInit2_(state, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK)
        defer { inflateEnd(state) }
        var output = ByteBuffer()
        bytes.withUnsafeReadableBytes { input in
            state.pointee.next_in = UnsafeMutablePointer(mutating: input.bindMemory(to: UInt8.self).baseAddress)
            state.pointee.avail_in = UInt32(input.count)
            output.writeWithUnsafeMutableBytes(minimumWritableBytes: 1 << 20) { space in
                state.pointee.next_out = space.bindMemory(to: UInt8.self).baseAddress
                state.pointee.avail_out = UInt32(space.count)
                let code = inflate(state, Z_SYNC_FLUSH)
                #expect(code == Z_OK || code == Z_STREAM_END)
                return space.count - Int(state.pointee.avail_out)
            }
        }
        return output
    }
}
