/// Which day rollups and 15-minute rollups make up the buckets of a report.
///
/// A day counts in the bucket that holds its middle. Where a boundary cuts the day, the 15-minute rollups on the
/// boundary's other side are moved: subtracted from the day's bucket and added to their own. After the day boundary
/// there are only 15-minute rollups.
package struct RollupCover: Sendable, Hashable {
    /// Quarter hours that count in another bucket than their day.
    package struct Move: Sendable, Hashable {
        package var quarterHours: Range<Int>
        /// The bucket of their day. Buckets are counted from 1; 0 and the one after the last are outside.
        package var source: Int
        /// The bucket that holds them.
        package var target: Int
    }

    /// A range shorter than this is read from 15-minute rollups alone.
    private static let shortest = 2 * QuarterHour.perDay

    /// Where each bucket begins, and where the last one ends, in quarter hours since 1970.
    package let boundaries: [Int]
    /// The first day of each bucket, since 1970, and the first after the last one; empty where no day is read.
    package private(set) var days: [Int] = []
    package private(set) var moves: [Move] = []
    /// The quarter hours whose 15-minute rollups are read as they are.
    package private(set) var quarterHours: Range<Int>

    /// Covers the buckets between `boundaries`, at least two and ascending, when quarter hours before `dayBoundary` are
    /// in day rollups.
    package init(_ boundaries: [Int], dayBoundary: Int) {
        self.boundaries = boundaries
        let (low, high) = (boundaries[0], boundaries[boundaries.count - 1])
        quarterHours = low..<high
        // Buckets shorter than a day gain nothing from day rollups.
        let isFine =
            (high - low) < Self.shortest || (high - low) / (boundaries.count - 1) < QuarterHour.perDay / 2
        guard dayBoundary > low, !isFine else { return }
        quarterHours = min(dayBoundary, high)..<high
        days = boundaries.map { Self.firstDay(from: $0, dayBoundary) }
        moves = cutDays(dayBoundary).flatMap { movesOfDay(Self.cover($0, dayBoundary)) }
    }

    /// The bucket of a quarter hour: how many boundaries lie at or before it, as PostgreSQL's `width_bucket` has it.
    package func bucket(of quarter: Int) -> Int {
        var (low, high) = (0, boundaries.count)
        while low < high {
            let middle = (low + high) / 2
            if boundaries[middle] <= quarter { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The quarter hours of a day that its rollup holds.
    private static func cover(_ day: Int, _ dayBoundary: Int) -> Range<Int> {
        day * QuarterHour.perDay..<min((day + 1) * QuarterHour.perDay, dayBoundary)
    }

    /// The first day whose middle is `quarter` or later; at most the first day that is not written.
    private static func firstDay(from quarter: Int, _ dayBoundary: Int) -> Int {
        guard quarter < dayBoundary else { return (dayBoundary - 1) / QuarterHour.perDay + 1 }
        let day = quarter / QuarterHour.perDay
        return middle(cover(day, dayBoundary)) >= quarter ? day : day + 1
    }

    private static func middle(_ cover: Range<Int>) -> Int { (cover.lowerBound + cover.upperBound) / 2 }

    /// The days that a boundary cuts, each once.
    private func cutDays(_ dayBoundary: Int) -> [Int] {
        var days: [Int] = []
        for boundary in boundaries where boundary < dayBoundary && boundary % QuarterHour.perDay != 0 {
            let day = boundary / QuarterHour.perDay
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
            return Move(quarterHours: start..<end, source: source, target: target)
        }
    }
}
