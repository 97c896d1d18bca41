internal import NIOCore

/// Keeps what a connection buffers before anybody reads it small: the server holds up to ten reads of each connection, and
/// NIO's own reads grow to 64 KB, which on 64 busy connections is 40 MB outside every budget.
final class ReceiveBufferHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private static let bytes = 16 << 10

    func handlerAdded(context: ChannelHandlerContext) {
        let allocator = FixedSizeRecvByteBufferAllocator(capacity: Self.bytes)
        _ = context.channel.setOption(.recvAllocator, value: allocator)
    }
}
