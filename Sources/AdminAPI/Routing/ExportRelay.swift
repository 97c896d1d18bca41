import Dispatch
import HTTPSupport
import Synchronization

/// How an export is written: a beginning, batches, an end.
protocol ExportFormat: Sendable {
    associatedtype Batch: Sendable

    /// The first bytes.
    mutating func begin() -> [UInt8]
    /// The bytes of `batch`.
    mutating func add(_ batch: Batch) -> [UInt8]
    /// The last bytes.
    mutating func end() -> [UInt8]
}

/// Writes the batches of an export on another thread, while the connection's own thread reads the next ones.
///
/// At most two batches are on their way while another is read, so that memory does not grow with the export.
final class ExportRelay<Format: ExportFormat>: Sendable {
    private let format: Mutex<Format>
    private let pipe: ChunkPipe
    private let queue = DispatchQueue(label: "export")
    private let slots = DispatchSemaphore(value: 2)
    /// Why writing ended early.
    private let failure = Mutex<(any Error)?>(nil)

    init(_ format: Format, to pipe: ChunkPipe) {
        self.format = Mutex(format)
        self.pipe = pipe
    }

    /// Sends the first bytes.
    ///
    /// - Throws: What ``ChunkPipe/send(_:)`` throws.
    func begin() throws {
        try pipe.send(format.withLock { $0.begin() })
    }

    /// Hands `batch` on; blocks while the two before it are not written yet.
    ///
    /// - Throws: What ``ChunkPipe/send(_:)`` threw for a batch before.
    func send(_ batch: Format.Batch) throws {
        slots.wait()
        do {
            try check()
        } catch {
            slots.signal()
            throw error
        }
        queue.async { [self] in
            defer { slots.signal() }
            guard failure.withLock({ $0 == nil }) else { return }
            do {
                try pipe.send(format.withLock { $0.add(batch) })
            } catch {
                failure.withLock { $0 = error }
            }
        }
    }

    /// Runs `body`, and waits until what it sent is written, also when it throws.
    ///
    /// - Throws: What `body` throws; what ``ChunkPipe/send(_:)`` threw.
    func waiting(_ body: () throws -> Void) throws {
        defer { queue.sync {} }
        try body()
    }

    /// Sends the last bytes.
    ///
    /// - Throws: What ``ChunkPipe/send(_:)`` throws, now or for a batch before.
    func end() throws {
        try check()
        try pipe.send(format.withLock { $0.end() })
    }

    private func check() throws {
        if let error = failure.withLock({ $0 }) { throw error }
    }
}
