internal import Bootstrap
internal import Domain
internal import HTTPTypes
internal import Logging
internal import NIOCore
internal import NIOHTTP1

/// Answers the requests of a lane, and passes all others on to the application, one after the other in the order in
/// which they came.
///
/// It holds what follows a request until that request is answered, and then reads no more, so it holds at most what one
/// read brought.
final class LaneHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// Whose request is read or answered.
    private enum Turn {
        case nobody
        /// A request of another route.
        case application(isRead: Bool, isAnswered: Bool)
        case reading(LaneRequest)
        /// It waits for the memory of its body.
        case reserving(LaneRequest)
        /// It is read, and its responder has it.
        case answering(LaneRequest)
        /// It was answered before its end, which is skipped.
        case skipping
    }

    /// What came from the connection.
    private enum Event {
        case part(HTTPServerRequestPart)
        case failure(any Error)
        case user(Any)
    }

    let eventLoop: any EventLoop
    private let loop: LaneLoop
    /// It is known once the connection is active.
    private lazy var peer = context?.channel.remoteAddress?.ipAddress.flatMap { IPAddress($0) }
    private let idleTimeout: TimeAmount
    private var context: ChannelHandlerContext?
    /// Where answers are written: past the encoder, because they are bytes already.
    private var encoder: ChannelHandlerContext?
    private var turn = Turn.nobody
    private var held: CircularBuffer<Event> = []
    private var isTakingHeld = false
    /// Whether a read was asked for while something was held.
    private var isReadWithheld = false
    /// Whether the connection ends after the requests that have come.
    private var isQuiescing = false
    /// Whether the last answer is written.
    private var isClosing = false
    private var lastActive = NIODeadline.now()
    private var idleCheck: Scheduled<Void>?

    init(_ lane: Lane, _ server: LaneServer, _ channel: any Channel) {
        eventLoop = channel.eventLoop
        loop = lane.loop(channel.eventLoop, server)
        idleTimeout = TimeAmount(server.idleTimeout)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        encoder = try? context.pipeline.syncOperations.context(handlerType: HTTPResponseEncoder.self)
        if context.channel.isActive { scheduleIdleCheck() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        idleCheck?.cancel()
        (self.context, encoder) = (nil, nil)
    }

    // MARK: - What comes from the connection

    func channelActive(context: ChannelHandlerContext) {
        scheduleIdleCheck()
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        lastActive = .now()
        receive(.part(unwrapInboundIn(data)))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        receive(.failure(error))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is ChannelShouldQuiesceEvent else { return receive(.user(event)) }
        isQuiescing = true
        passOnQuiescing()
    }

    func read(context: ChannelHandlerContext) {
        if isPaused { isReadWithheld = true } else { context.read() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        idleCheck?.cancel()
        held.removeAll()
        switch turn {
        case .reading(let request), .reserving(let request): abort(request)
        case .nobody, .application, .answering, .skipping: break
        }
        turn = .nobody
        isClosing = true
        context.fireChannelInactive()
    }

    private func receive(_ event: Event) {
        if held.isEmpty, canTake(event) { take(event) } else { held.append(event) }
    }

    private func canTake(_ event: Event) -> Bool {
        switch (turn, event) {
        case (.reserving, _), (.answering, _): false
        case (.application(isRead: true, _), .part): false
        default: true
        }
    }

    private func take(_ event: Event) {
        switch event {
        case .part where isClosing: break
        case .part(let part): take(part)
        case .failure(let error):
            endReading()
            // The application answers bytes that are not HTTP with 400, and closes.
            context?.fireErrorCaught(error)
        case .user(let event):
            if case .inputClosed? = event as? ChannelEvent { endReading() }
            context?.fireUserInboundEventTriggered(event)
        }
    }

    private func take(_ part: HTTPServerRequestPart) {
        switch (turn, part) {
        case (.nobody, .head(let head)):
            if head.method == .POST, let path = loop.server.path(of: head.uri) {
                return begin(head, path: path)
            }
            turn = .application(isRead: false, isAnswered: false)
            context?.fireChannelRead(wrapInboundOut(part))
        case (.application(_, let isAnswered), .body), (.application(_, let isAnswered), .head):
            turn = .application(isRead: false, isAnswered: isAnswered)
            context?.fireChannelRead(wrapInboundOut(part))
        case (.application(_, let isAnswered), .end):
            turn = .application(isRead: true, isAnswered: isAnswered)
            context?.fireChannelRead(wrapInboundOut(part))
            if isAnswered { endTurn() }
        case (.reading(let request), .body(let chunk)): append(chunk, to: request)
        case (.reading(let request), .end): complete(request)
        case (.skipping, .end): endTurn()
        default: break
        }
    }

    // MARK: - A request of the lane

    private func begin(_ head: HTTPRequestHead, path: String) {
        let request = LaneRequest(head, path: path, client: loop.client(peer, head), loop, connection: self)
        turn = .reading(request)
        let bodies = loop.lane.bodies
        do throws(AppError) {
            try loop.check(request)
            if let announced = request.announced, announced > bodies.limit { throw bodies.tooLarge }
        } catch {
            return request.fail(error)
        }
        let bytes = bodies.firstReservation(announced: request.announced)
        if bytes > 0, !request.reserveIfFree(bytes) { wait(for: bytes, request) }
    }

    private func append(_ chunk: ByteBuffer, to request: LaneRequest) {
        let bodies = loop.lane.bodies
        let length = request.bodyBytes + chunk.readableBytes
        if length > bodies.limit { return request.fail(bodies.tooLarge) }
        guard lastActive - request.start < TimeAmount(bodies.deadline) else {
            return request.fail(AppError(.timeout, BodyReader.tooSlow))
        }
        if length > request.reserved {
            let bytes = bodies.reservation(for: length, announced: request.announced, holding: request.reserved)
            if !request.reserveIfFree(bytes) {
                held.prepend(.part(.body(chunk)))
                return wait(for: bytes, request)
            }
        }
        request.append(chunk)
    }

    private func wait(for bytes: Int, _ request: LaneRequest) {
        turn = .reserving(request)
        request.reserve(bytes) { [self] error in
            guard case .reserving(let waiting) = turn, waiting === request else { return request.drop() }
            turn = .reading(request)
            if let error { request.fail(error) }
            takeHeld()
        }
    }

    private func complete(_ request: LaneRequest) {
        request.complete()
        turn = .answering(request)
        loop.responder.respond(to: request)
    }

    /// Writes the answer to `request`, and ends its turn.
    func finish(_ request: LaneRequest, _ answer: LaneAnswer) {
        loop.record(request, status: answer.status.code)
        let wasRead = if case .answering = turn { true } else { false }
        request.drop()
        guard !isClosing, let context, let encoder else { return }
        let bytes = loop.bytes(of: answer, to: request, context.channel.allocator)
        encoder.writeAndFlush(NIOAny(IOData.byteBuffer(bytes)), promise: nil)
        turn = .skipping
        if request.isLast {
            isClosing = true
            held.removeAll()
            context.close(mode: .output, promise: nil)
        }
        if wasRead || request.isLast { endTurn() }
    }

    /// Answers `request` with what `error` means, and ends its turn.
    func fail(_ request: LaneRequest, _ error: any Error) {
        finish(request, loop.answer(to: error, request))
    }

    /// Ends a request whose body does not come to its end.
    private func abort(_ request: LaneRequest) {
        request.drop()
        loop.record(request, status: 400)
    }

    private func endReading() {
        guard case .reading(let request) = turn else { return }
        abort(request)
        turn = .nobody
    }

    // MARK: - One after the other

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        context.write(data, promise: promise)
        guard case .end = unwrapOutboundIn(data), case .application(let isRead, _) = turn else { return }
        turn = .application(isRead: isRead, isAnswered: true)
        if isRead { endTurn() }
    }

    private func endTurn() {
        turn = .nobody
        lastActive = .now()
        scheduleIdleCheck()
        takeHeld()
    }

    private func takeHeld() {
        guard !isTakingHeld else { return }
        if !held.isEmpty {
            isTakingHeld = true
            while let event = held.first, canTake(event) {
                held.removeFirst()
                take(event)
            }
            isTakingHeld = false
            context?.fireChannelReadComplete()
        }
        passOnQuiescing()
        guard isReadWithheld, !isPaused else { return }
        isReadWithheld = false
        context?.read()
    }

    private var isPaused: Bool {
        if case .reserving = turn { return true }
        return !held.isEmpty
    }

    /// Lets the application close the connection, unless a request of the lane is not answered yet.
    private func passOnQuiescing() {
        guard isQuiescing, held.isEmpty else { return }
        switch turn {
        case .reading, .reserving, .answering: return
        case .nobody, .application, .skipping:
            isQuiescing = false
            context?.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        }
    }

    // MARK: - Silence

    /// Closes the connection when nothing came for ``idleTimeout`` and no answer is awaited.
    private func scheduleIdleCheck() {
        guard idleCheck == nil, context?.channel.isActive == true else { return }
        let wait = idleTimeout - (NIODeadline.now() - lastActive)
        idleCheck = eventLoop.assumeIsolated().scheduleTask(in: max(wait, .nanoseconds(0))) { [weak self] in
            self?.checkIdle()
        }
    }

    private func checkIdle() {
        idleCheck = nil
        switch turn {
        case .answering, .application(isRead: true, isAnswered: false): return
        default: break
        }
        if NIODeadline.now() - lastActive >= idleTimeout {
            context?.close(promise: nil)
        } else {
            scheduleIdleCheck()
        }
    }
}

@available(*, unavailable)
extension LaneHandler: Sendable {}

/// Puts the handler of a lane before Hummingbird's handlers. Hummingbird adds its additional handlers after its own
/// conversion of requests, which a lane does not need.
final class LaneInstaller: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let lane: Lane
    private let server: LaneServer

    init(_ lane: Lane, _ server: LaneServer) {
        self.lane = lane
        self.server = server
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let pipeline = context.pipeline.syncOperations
        do {
            let decoder = try pipeline.context(handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self)
            try pipeline.addHandler(
                LaneHandler(lane, server, context.channel), name: nil, position: .after(decoder.handler))
        } catch {
            context.fireErrorCaught(error)
        }
    }
}
