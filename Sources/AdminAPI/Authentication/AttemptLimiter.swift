import Synchronization

/// Bounds how often something is tried: `burst` times at once, in the long run once in each `interval`.
///
/// Any number of keys share a table of fixed size, of which nothing is ever forgotten before its time: whoever fills it
/// with other keys restores none. Each key has a cell in each of four rows, and the earliest of the four counts. So a
/// key is only refused for another's attempts where all four of its cells are also those of keys that were tried
/// lately.
final class AttemptLimiter<Key: Hashable & Sendable>: Sendable {
    private let interval: Int64
    private let tolerance: Int64
    private let columns: Int
    private let start: ContinuousClock.Instant
    private let now: @Sendable () -> ContinuousClock.Instant
    /// For each cell when the attempts so far are paid for, in microseconds since the start, at one for each interval
    /// (ITU-T I.371, "generic cell rate algorithm").
    private let cells: Mutex<[Int64]>

    private static var rows: Int { 4 }

    init(
        burst: Int, interval: Duration, columns: Int = 1 << 14, now: @escaping @Sendable () -> ContinuousClock.Instant
    ) {
        self.interval = Int64(interval / .microseconds(1))
        tolerance = self.interval * Int64(burst - 1)
        self.columns = columns
        self.now = now
        start = now()
        cells = Mutex(Array(repeating: 0, count: Self.rows * columns))
    }

    /// Counts an attempt of `key`: `nil` where it may be made, else the seconds, at least 1, until one may be.
    func wait(for key: Key) -> Int? {
        let places = (0..<Self.rows).map { row in
            // Seeded anew by each process: nobody knows beforehand which keys share a cell.
            var hasher = Hasher()
            hasher.combine(row)
            hasher.combine(key)
            return row * columns + Int(UInt(bitPattern: hasher.finalize()) % UInt(columns))
        }
        let time = Int64((now() - start) / .microseconds(1))
        return cells.withLock { cells in
            let paid = max(time, places.map { cells[$0] }.min() ?? 0)
            let excess = paid - time - tolerance
            guard excess <= 0 else { return Int((excess + 999_999) / 1_000_000) }
            for place in places { cells[place] = max(cells[place], paid + interval) }
            return nil
        }
    }
}
