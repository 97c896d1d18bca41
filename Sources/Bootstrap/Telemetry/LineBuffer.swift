package import Domain
internal import Glibc

/// Lines at level `info` that one thread collects and writes together. Each looks as ``LineLogHandler`` writes it.
package struct LineBuffer {
    /// Takes whole lines, each with its newline.
    package typealias Write = @Sendable (UnsafeRawBufferPointer) -> Void

    /// The bytes that are collected before they are written even without ``flush()``.
    private static let capacity = 64 << 10
    /// The most bytes that a pipe takes at once, so that lines of two programs never mix (pipe(7), `PIPE_BUF`).
    private static let pieceBytes = 4096

    /// What follows the time of each line.
    private let origin: [UInt8]
    private let write: Write
    private var bytes: [UInt8] = []
    /// The last second that was written, and its text. Most lines are of one second.
    private var second: (number: Int64, text: [UInt8]) = (.min, [])

    /// - Parameters:
    ///   - label: The program's name.
    ///   - write: Takes the lines.
    package init(label: String, write: @escaping Write = Telemetry.writeToStandardError) {
        origin = Array(" info \(label): ".utf8)
        self.write = write
    }

    /// Whether nothing waits for ``flush()``.
    package var isEmpty: Bool { bytes.isEmpty }

    /// Adds a line of the moment `time`. `pairs` are sorted by their keys.
    package mutating func append(_ message: String, _ pairs: some Sequence<(String, String)>, at time: Timestamp) {
        append(time)
        bytes += origin
        bytes += message.utf8
        for (key, value) in pairs {
            bytes.append(UInt8(ascii: " "))
            bytes += key.utf8
            bytes.append(UInt8(ascii: "="))
            bytes += value.asLogValue.utf8
        }
        bytes.append(UInt8(ascii: "\n"))
        if bytes.count >= Self.capacity { flush() }
    }

    /// Writes the lines.
    package mutating func flush() {
        bytes.withUnsafeBytes { bytes in
            var start = 0
            while start < bytes.count {
                let end = Self.lineEnd(in: bytes, after: start)
                write(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
                start = end
            }
        }
        bytes.removeAll(keepingCapacity: true)
    }

    /// The end of the last line that fits into one piece, or of the first line if none fits.
    private static func lineEnd(in bytes: UnsafeRawBufferPointer, after start: Int) -> Int {
        guard bytes.count - start > pieceBytes else { return bytes.count }
        let newline = UInt8(ascii: "\n")
        let last = bytes[start..<(start + pieceBytes)].lastIndex(of: newline)
        return (last ?? bytes[start...].firstIndex(of: newline) ?? bytes.count - 1) + 1
    }

    private mutating func append(_ time: Timestamp) {
        let number = time.microseconds / 1_000_000
        if number != second.number { second = (number, Array(time.rfc3339.utf8.dropLast(4))) }
        bytes += second.text
        let milliseconds = time.microseconds / 1000 % 1000
        for digit in [milliseconds / 100, milliseconds / 10 % 10, milliseconds % 10] {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: digit))
        }
        bytes.append(UInt8(ascii: "Z"))
    }
}
