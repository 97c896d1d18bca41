internal import HTTPTypes
package import Hummingbird
package import NIOCore

extension Request {
    /// Whether its `Accept-Encoding` takes gzip (RFC 9110 §12.5.3). One that is missing takes anything, but who unpacks says so.
    package var acceptsGzip: Bool {
        let weights = headers[values: .acceptEncoding].joined(separator: ",").split(separator: ",").map(Coding.init)
        let own = weights.first { ["gzip", "x-gzip"].contains($0.name) } ?? weights.first { $0.name == "*" }
        return own?.isTaken ?? false
    }
}

/// A coding that a reader names, and whether it is one it takes.
private struct Coding {
    let name: String
    let isTaken: Bool

    /// Reads `gzip;q=0.5`; one whose weight is unreadable is not taken.
    init(_ text: Substring) {
        let parts = text.lowercased().split(separator: ";").map(\.trimmingSpaces)
        name = parts.first.map(String.init) ?? ""
        let weight = parts.dropFirst().first { $0.hasPrefix("q=") }
        isTaken = weight.map { Double($0.dropFirst(2)) ?? 0 > 0 } ?? true
    }
}

extension ByteBuffer {
    /// The whole of it as gzip; `nil` where that is not worth a reader's time.
    package var gzipped: ByteBuffer? {
        guard readableBytes >= Self.worthwhile else { return nil }
        let compressed = GzipStream().compress(self, isLast: true)
        return compressed.readableBytes < readableBytes ? compressed : nil
    }

    /// What one packet of a network takes anyway.
    private static let worthwhile = 1_400
}
