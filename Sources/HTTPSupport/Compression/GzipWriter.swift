internal import HTTPTypes
package import Hummingbird
internal import NIOCore

extension ResponseBody {
    /// The same bytes as gzip, each piece sent as soon as it is made.
    package var gzipped: ResponseBody {
        let body = self
        return ResponseBody { writer in try await body.write(GzipWriter(writer)) }
    }
}

/// Compresses what is written to an answer.
private struct GzipWriter: ResponseBodyWriter {
    /// What is compressed at one time, in well under a millisecond: the threads here serve others too.
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
