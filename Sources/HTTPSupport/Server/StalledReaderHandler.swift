internal import NIOCore

/// Closes the connection of a client that takes nothing of its answer: whatever the answer holds is free again.
///
/// Asleep while clients read, so that it costs their answers nothing.
final class StalledReaderHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let patience: TimeAmount
    private var look: Scheduled<Void>?

    init(patience: TimeAmount) {
        self.patience = patience
    }

    /// What the system may hold for a client, which the handler does not see: by default megabytes, that a slow client takes
    /// minutes for.
    private static let sendBuffer = 256 << 10

    func handlerAdded(context: ChannelHandlerContext) {
        _ = context.channel.setOption(.socketOption(.so_sndbuf), value: Self.sendBuffer)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { stop() } else if look == nil { lookLater(context) }
        context.fireChannelWritabilityChanged()
    }

    func channelInactive(context: ChannelHandlerContext) {
        stop()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        stop()
    }

    /// Looks in a while whether anything of what waits now was taken.
    private func lookLater(_ context: ChannelHandlerContext) {
        guard let waiting = waiting(context) else { return }
        look = context.eventLoop.assumeIsolated().scheduleTask(in: patience) { [self] in
            look = nil
            if self.waiting(context) == waiting { context.close(promise: nil) } else { lookLater(context) }
        }
    }

    /// The bytes that the client's side has not taken yet. While the channel is not writable they only become fewer.
    private func waiting(_ context: ChannelHandlerContext) -> Int? {
        try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)
    }

    private func stop() {
        look?.cancel()
        look = nil
    }
}

@available(*, unavailable)
extension StalledReaderHandler: Sendable {}
