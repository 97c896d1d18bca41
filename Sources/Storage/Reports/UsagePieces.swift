/// Which cells of days and quarters make up the buckets of a report (`migrations/0007_usage.sql`).
///
/// A day counts in the bucket that holds its middle; where a boundary cuts it, the quarters on the boundary's other side are
/// moved: taken from that bucket and given to theirs. Behind the border there are only quarters.
package struct UsagePieces: Sendable, Hashable {
    /// Quarters that count in another bucket than their day.
    package struct Move: Sendable, Hashable {
        package var quarters: Range<Int>
        /// The bucket of their day, and their own. Buckets are counted from 1; 0 and the one behind the last are outside.
        package var source: Int
        package var target: Int
    }

    private static let quartersOfDay = 96
    /// Ranges below two days are read from quarters alone.
    private static let fewQuarters = 2 * quartersOfDay

    /// Where each bucket begins, and where the last one ends, in quarters.
    package let boundaries: [Int]
    /// The first day of each bucket, since 1970, and the first behind the last one; empty where no day is read.
    package private(set) var days: [Int] = []
    package private(set) var moves: [Move] = []
    /// The quarters that are read as they are.
    package private(set) var quarters: Range<Int>

    /// The pieces for buckets between `boundaries`, at least two and ascending, when quarters before `daysBefore` are in days.
    package init(_ boundaries: [Int], daysBefore: Int) {
        self.boundaries = boundaries
        let (low, high) = (boundaries[0], boundaries[boundaries.count - 1])
        quarters = low..<high
        // Buckets shorter than days gain nothing by them.
        let isFine = (high - low) < Self.fewQuarters || (high - low) / (boundaries.count - 1) < Self.quartersOfDay / 2
        guard daysBefore > low, !isFine else { return }
        quarters = min(daysBefore, high)..<high
        days = boundaries.map { Self.firstDay(from: $0, daysBefore) }
        moves = cutDays(daysBefore).flatMap { movesOfDay(Self.cover($0, daysBefore)) }
    }

    /// The bucket of a quarter: how many boundaries lie at or before it, as PostgreSQL's `width_bucket` has it.
    package func bucket(of quarter: Int) -> Int {
        var (low, high) = (0, boundaries.count)
        while low < high {
            let middle = (low + high) / 2
            if boundaries[middle] <= quarter { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The quarters of a day that are in it.
    private static func cover(_ day: Int, _ daysBefore: Int) -> Range<Int> {
        day * quartersOfDay..<min((day + 1) * quartersOfDay, daysBefore)
    }

    /// The first day whose middle is `quarter` or later; at most the first day that is not written.
    private static func firstDay(from quarter: Int, _ daysBefore: Int) -> Int {
        guard quarter < daysBefore else { return (daysBefore - 1) / quartersOfDay + 1 }
        let day = quarter / quartersOfDay
        return middle(cover(day, daysBefore)) >= quarter ? day : day + 1
    }

    private static func middle(_ cover: Range<Int>) -> Int { (cover.lowerBound + cover.upperBound) / 2 }

    /// The days that a boundary cuts, each once.
    private func cutDays(_ daysBefore: Int) -> [Int] {
        var days: [Int] = []
        for boundary in boundaries where boundary < daysBefore && boundary % Self.quartersOfDay != 0 {
            let day = boundary / Self.quartersOfDay
            if days.last != day { days.append(day) }
        }
        return days
    }

    private func movesOfDay(_ cover: Range<Int>) -> [Move] {
        let source = bucket(of: Self.middle(cover))
        let cuts = boundaries.filter { $0 > cover.lowerBound && $0 < cover.upperBound }
        let inside = 1..<boundaries.count
        return zip([cover.lowerBound] + cuts, cuts + [cover.upperBound]).compactMap { start, end in
            let target = bucket(of: start)
            guard target != source, inside.contains(source) || inside.contains(target) else { return nil }
            return Move(quarters: start..<end, source: source, target: target)
        }
    }
}
