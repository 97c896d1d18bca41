internal import Dispatch
internal import Foundation
internal import Glibc
package import Postgres
internal import Synchronization

/// A TCP proxy between a pool and the server that can lose the connection in the middle of a request, or be down.
package final class CommitProxy: Sendable {
    /// The first bytes of the request to which a fault happens.
    package enum Request: Sendable {
        /// COMMIT.
        case commit
        /// The execution of a prepared statement.
        case preparedStatement

        fileprivate func begins(_ bytes: ArraySlice<UInt8>) -> Bool {
            switch self {
            case .commit: bytes.first == UInt8(ascii: "Q") && bytes.dropFirst(5).elementsEqual(Array("COMMIT\0".utf8))
            case .preparedStatement: bytes.first == UInt8(ascii: "B")
            }
        }
    }

    /// What happens to the first such request that passes.
    package enum Fault: Sendable {
        case none
        /// The server executes it; its answer never arrives.
        case answerLost
        /// The server never sees it.
        case requestLost
    }

    private struct State {
        var fault = Fault.none
        var request = Request.commit
        var isDownAfterFault = false
        var listener: Int32 = -1
    }

    package let port: UInt16
    private let upstream: ConnectionConfiguration
    private let state = Mutex(State())
    private let isClosed = DispatchSemaphore(value: 0)

    /// A proxy to `upstream`.
    ///
    /// - Throws: ``PortTaken``.
    package init(to upstream: ConnectionConfiguration) throws {
        self.upstream = upstream
        let (listener, port) = try Self.listen(on: 0)
        self.port = port
        accept(from: listener)
    }

    /// The upstream's configuration through this proxy.
    package var configuration: ConnectionConfiguration {
        var configuration = upstream
        configuration.host = "127.0.0.1"
        configuration.port = Int(port)
        configuration.sslMode = "disable"
        return configuration
    }

    /// Arms `fault` for the next `request`; `thenDown` refuses connections from that moment on.
    package func arm(_ fault: Fault, at request: Request = .commit, thenDown: Bool = false) {
        state.withLock { state in
            state.fault = fault
            state.request = request
            state.isDownAfterFault = thenDown
        }
    }

    /// Refuses connections from now on; those that are open go on.
    package func stop() {
        let listener = state.withLock { state in
            defer { state.listener = -1 }
            return state.listener
        }
        if listener >= 0 {
            // Ends the wait of the thread in accept, which closes it. Until then the port cannot be used again.
            shutdown(listener, Int32(SHUT_RDWR))
            isClosed.wait()
        }
    }

    /// Accepts connections again, on the same port.
    ///
    /// - Throws: ``PortTaken``.
    package func start() throws {
        accept(from: try Self.listen(on: port).listener)
    }

    private func accept(from listener: Int32) {
        state.withLock { $0.listener = listener }
        Thread.detachNewThread { [self] in
            while case let client = Glibc.accept(listener, nil, nil), client >= 0 {
                serve(Relay(client: client, server: connectUpstream()))
            }
            close(listener)
            isClosed.signal()
        }
    }

    private func serve(_ relay: Relay) {
        Thread.detachNewThread { [self] in
            relay.pump(from: relay.client, to: relay.server) { bytes in
                switch takeFault(in: bytes) {
                case .none: return true
                case .answerLost:
                    relay.isAnswerLost.store(true, ordering: .releasing)
                    return true
                case .requestLost: return false
                }
            }
        }
        Thread.detachNewThread {
            relay.pump(from: relay.server, to: relay.client) { _ in !relay.isAnswerLost.load(ordering: .acquiring) }
        }
    }

    private func takeFault(in bytes: ArraySlice<UInt8>) -> Fault {
        let (fault, isDown) = state.withLock { state in
            guard state.request.begins(bytes) else { return (Fault.none, false) }
            defer { state.fault = .none }
            return (state.fault, state.isDownAfterFault)
        }
        if fault != .none, isDown {
            stop()
        }
        return fault
    }

    private func connectUpstream() -> Int32 {
        guard upstream.host.hasPrefix("/") else { return Self.connect(port: UInt16(upstream.port)) }
        return Self.connect(path: "\(upstream.host)/.s.PGSQL.\(upstream.port)")
    }
}

/// The two sockets of one proxied connection, closed when both directions are done.
private final class Relay: Sendable {
    let client: Int32
    let server: Int32
    let isAnswerLost = Atomic(false)

    init(client: Int32, server: Int32) {
        self.client = client
        self.server = server
    }

    deinit {
        close(client)
        close(server)
    }

    /// Passes bytes on until either side ends or `isPassed` says no; then ends both.
    func pump(from source: Int32, to target: Int32, _ isPassed: (ArraySlice<UInt8>) -> Bool) {
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        while case let count = read(source, &buffer, buffer.count), count > 0, isPassed(buffer[..<count]) {
            guard send(target, buffer, count, Int32(MSG_NOSIGNAL)) == count else { break }
        }
        shutdown(source, Int32(SHUT_RDWR))
        shutdown(target, Int32(SHUT_RDWR))
    }
}
