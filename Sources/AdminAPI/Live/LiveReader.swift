import Analytics
import Hummingbird
import NIOCore
import Synchronization

/// Whose logs and totals a reader gets, and by which calendar.
struct LiveScope: Sendable, Hashable {
    /// `nil` for all users.
    let user: Int64?
    let zone: TimeZoneName
}

/// One open stream: what waits to be written to its client, and what is known of its caller.
final class LiveReader: Sendable {
    /// Where a reader begins.
    enum Start: Sendable {
        /// After the last event that it has, or from when its stream was opened.
        case after(LogMark)
        /// After an event that is not known any more.
        case unknown
    }

    private struct State {
        var pending = ByteBuffer()
        var hasEnded = false
        var writtenAt = ContinuousClock.now
    }

    /// Bytes that wait for a slow client. Beyond that they are dropped, and the client is asked to read again.
    static let maximumBytes = 1 << 20

    let scope: LiveScope
    /// The id of the caller.
    let caller: Int64
    let start: Start
    /// When it ends at the latest.
    let end: ContinuousClock.Instant
    /// Whether the caller may still read the scope.
    ///
    /// It throws an error that says nothing of it, such as that the database is away.
    let isAllowed: @Sendable () async throws -> Bool
    private let state = Mutex(State())
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    init(
        _ scope: LiveScope, caller: Int64, start: Start, end: ContinuousClock.Instant,
        isAllowed: @escaping @Sendable () async throws -> Bool
    ) {
        (self.scope, self.caller, self.start, self.end) = (scope, caller, start, end)
        self.isAllowed = isAllowed
        (signals, signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Sends events, unless the stream has ended. Returns whether the client has kept up. Otherwise all that waited is
    /// dropped, and only `reset` is sent.
    @discardableResult
    func send(_ events: ByteBuffer, orElse reset: () -> ByteBuffer) -> Bool {
        let hasKeptUp = state.withLock { state in
            guard !state.hasEnded else { return true }
            state.writtenAt = .now
            if state.pending.readableBytes + events.readableBytes <= Self.maximumBytes {
                state.pending.writeImmutableBuffer(events)
                return true
            }
            state.pending = reset()
            return false
        }
        signal.yield()
        return hasKeptUp
    }

    /// Ends the stream with a last comment.
    func end(saying comment: String) {
        state.withLock { state in
            guard !state.hasEnded else { return }
            state.pending.writeImmutableBuffer(LiveEvent.comment(comment))
            state.hasEnded = true
        }
        signal.yield()
    }

    /// Whether nothing was sent for so long.
    func isSilent(for time: Duration) -> Bool {
        state.withLock { ContinuousClock.now - $0.writtenAt >= time }
    }

    /// Writes what is sent to `writer` until the stream has ended.
    ///
    /// - Throws: What `writer` throws, when the client is gone.
    func write(to writer: inout any ResponseBodyWriter) async throws {
        for await _ in signals {
            let (bytes, hasEnded) = state.withLock { state in
                defer { state.pending = ByteBuffer() }
                return (state.pending, state.hasEnded)
            }
            if bytes.readableBytes > 0 { try await writer.write(bytes) }
            if hasEnded { return }
        }
    }
}
