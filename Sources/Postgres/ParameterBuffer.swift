/// The bound values of one query in PostgreSQL's text format: one buffer, each value ended by NUL, as libpq wants them.
struct ParameterBuffer: Sendable {
    private var bytes: [UInt8] = []
    /// Where each value starts in `bytes`; `nil` is SQL's NULL.
    private var starts: [Int?] = []
    /// The number, from 1, of the first value that contains NUL and so would be cut short.
    private(set) var firstInvalid: Int?

    var count: Int { starts.count }

    mutating func append(_ value: some PostgresEncodable) {
        let start = bytes.count
        guard value.encode(into: &bytes) else {
            starts.append(nil)
            return
        }
        starts.append(start)
        if firstInvalid == nil, bytes[start...].contains(0) {
            firstInvalid = starts.count
        }
        bytes.append(0)
    }

    mutating func append(contentsOf other: ParameterBuffer) {
        if firstInvalid == nil, let invalid = other.firstInvalid {
            firstInvalid = count + invalid
        }
        let offset = bytes.count
        starts.append(contentsOf: other.starts.map { start in start.map { $0 + offset } })
        bytes.append(contentsOf: other.bytes)
    }

    /// Lends the values as the array of C strings that libpq's calls take; it ends with the call.
    func withPointers<T>(_ body: (UnsafePointer<UnsafePointer<CChar>?>?) throws -> T) rethrows -> T {
        try bytes.withUnsafeBytes { buffer in
            let base = buffer.assumingMemoryBound(to: CChar.self).baseAddress
            let pointers = starts.map { start -> UnsafePointer<CChar>? in
                guard let base, let start else { return nil }
                return base + start
            }
            return try pointers.withUnsafeBufferPointer { try body($0.baseAddress) }
        }
    }
}
