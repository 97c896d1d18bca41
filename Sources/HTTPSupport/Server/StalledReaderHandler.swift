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
