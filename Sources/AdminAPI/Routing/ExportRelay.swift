import Dispatch
import HTTPSupport
import Synchronization

/// How an export is written: first bytes, batches, last bytes.
protocol ExportFormat: Sendable {
    associatedtype Batch: Sendable

    /// The first bytes.
    mutating func begin() -> [UInt8]
    /// The bytes of `batch`.
    mutating func add(_ batch: Batch) -> [UInt8]
    /// The last bytes.
    mutating func end() -> [UInt8]
}

/// Formats the batches of an export on a second thread, while the thread of the connection reads the next batch.
///
/// At most two batches wait or are formatted while another is read. Memory does not grow with the export.
final class ExportRelay<Format: ExportFormat>: Sendable {
    private let writer: Mutex<Writer>
    private let pipe: ChunkPipe
    private let queue = DispatchQueue(label: "export")
    private let slots = DispatchSemaphore(value: 2)
    /// Why the second thread stopped early.
    private let failure = Mutex<(any Error)?>(nil)

    /// Writes the first bytes together with the bytes that follow them.
    private struct Writer {
        var format: Format
        var hasBegun = false

        mutating func write(_ next: (inout Format) -> [UInt8]) -> [UInt8] {
            let first = hasBegun ? [] : format.begin()
            hasBegun = true
            return first + next(&format)
        }
    }

    private init(_ format: Format, to pipe: ChunkPipe) {
        writer = Mutex(Writer(format: format))
        self.pipe = pipe
    }

    /// Sends an export to `pipe`: the batches that `read` passes on, as `format` writes them. Returns when all is sent.
    ///
    /// - Throws: What `read` throws; what ``ChunkPipe/send(_:)`` throws.
    static func send(
        _ format: Format, to pipe: ChunkPipe, _ read: ((Format.Batch) throws -> Void) throws -> Void
    ) throws {
        let relay = ExportRelay(format, to: pipe)
        do {
            // The second thread has ended when this returns or throws.
            defer { relay.queue.sync {} }
            try read(relay.enqueue)
        }
        try relay.check()
        try pipe.send(relay.writer.withLock { $0.write { $0.end() } })
    }

    /// Passes `batch` to the second thread. Blocks while two batches before it are not sent yet.
    private func enqueue(_ batch: Format.Batch) throws {
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
                try pipe.send(writer.withLock { $0.write { $0.add(batch) } })
            } catch {
                failure.withLock { $0 = error }
            }
        }
    }

    private func check() throws {
        if let error = failure.withLock({ $0 }) { throw error }
    }
}
