import NIOCore
import NIOPosix

/// A TCP connection whose bytes a test writes and reads itself, for what an HTTP client would never send.
struct RawConnection {
    /// The stream has one iterator for all its readers.
    private final class Inbound {
        private var iterator: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator

        init(_ stream: NIOAsyncChannelInboundStream<ByteBuffer>) {
            iterator = stream.makeAsyncIterator()
        }

        func next(isolation: isolated (any Actor)? = #isolation) async throws -> ByteBuffer? {
            try await iterator.next(isolation: isolation)
        }
    }

    private let inbound: Inbound
    private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>

    /// Runs `body` on a connection to `port` of this machine.
    static func run<T: Sendable>(port: Int, _ body: @Sendable (RawConnection) async throws -> T) async throws -> T {
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        let channel = try await bootstrap.connect(host: "localhost", port: port) { channel in
            channel.eventLoop.makeCompletedFuture {
                try NIOAsyncChannel<ByteBuffer, ByteBuffer>(
                    wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
            }
        }
        return try await channel.executeThenClose { inbound, outbound in
            try await body(RawConnection(inbound: Inbound(inbound), outbound: outbound))
        }
    }

    func send(_ text: String) async throws {
        try await outbound.write(ByteBuffer(string: text))
    }

    /// Says that nothing more will be sent.
    func endOutput() async throws {
        outbound.finish()
    }

    /// What the server sends until `text` has come, or until it closes the connection.
    func receive(until text: String) async throws -> String {
        var received = ""
        while let chunk = try await inbound.next() {
            received += String(buffer: chunk)
            if received.contains(text) { break }
        }
        return received
    }

    /// What the server sends until it closes the connection.
    func receiveAll() async throws -> String {
        var received = ""
        while let chunk = try await inbound.next() { received += String(buffer: chunk) }
        return received
    }
}
