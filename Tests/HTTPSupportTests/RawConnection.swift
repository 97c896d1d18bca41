import NIOCore
import NIOPosix

/// A TCP connection whose bytes a test writes and reads itself, for what an HTTP client would never send.
struct RawConnection {
    private let inbound: NIOAsyncChannelInboundStream<ByteBuffer>
    private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>

    /// Runs `body` on a connection to `port` of this machine.
    static func run<T: Sendable>(port: Int, _ body: @Sendable (RawConnection) async throws -> T) async throws -> T {
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        let channel = try await bootstrap.connect(host: "localhost", port: port) { channel in
            channel.eventLoop.makeCompletedFuture {
                try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
            }
        }
        return try await channel.executeThenClose { inbound, outbound in
            try await body(RawConnection(inbound: inbound, outbound: outbound))
        }
    }

    func send(_ text: String) async throws {
        try await outbound.write(ByteBuffer(string: text))
    }

    /// What the server sends until `text` has come, or until it closes the connection.
    func receive(until text: String) async throws -> String {
        var received = ""
        for try await chunk in inbound {
            received += String(buffer: chunk)
            if received.contains(text) { break }
        }
        return received
    }

    /// What the server sends until it closes the connection.
    func receiveAll() async throws -> String {
        var received = ""
        for try await chunk in inbound { received += String(buffer: chunk) }
        return received
    }
}
