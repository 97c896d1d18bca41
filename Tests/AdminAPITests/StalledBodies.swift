import NIOCore
import NIOPosix

/// Runs `body` while `count` connections to `port` have announced `length` bytes, sent the first `arriving` of them,
/// and stall.
func withStalledBodies<T: Sendable>(
    _ count: Int, of length: Int, arriving: Int, on port: Int, _ body: () async throws -> T
) async throws -> T {
    var channels: [any Channel] = []
    do {
        for _ in 0..<count {
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(host: "127.0.0.1", port: port).get()
            channels.append(channel)
            var bytes = channel.allocator.buffer(capacity: arriving + 256)
            bytes.writeString("POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: \(length)\r\n\r\n")
            bytes.writeRepeatingByte(UInt8(ascii: " "), count: arriving)
            // Those beyond the share are not read, and so never written to their end.
            channel.writeAndFlush(bytes, promise: nil)
        }
        let result = try await body()
        for channel in channels { try? await channel.close() }
        return result
    } catch {
        for channel in channels { try? await channel.close() }
        throw error
    }
}
