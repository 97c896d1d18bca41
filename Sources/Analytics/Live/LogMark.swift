/// How far a reader has read the line of ids: every log up to ``top``, except those that may yet be committed in a gap.
///
/// It is the `id` of an event of the stream. As text it holds all that is needed to go on, in any process.
package struct LogMark: Sendable, Hashable {
    /// Positions (``IDLine``) without a log so far, whose transactions may still be open.
    package struct Gap: Sendable, Hashable {
        /// The position before the first.
        var after: Int64
        /// The last position.
        var through: Int64
    }

    /// Gaps that a text holds. A mark with more cannot be continued from.
    static let maximumGaps = 64

    /// Which line it is on. It is another one after the ids began again.
    let line: Int64
    /// The greatest position that was read.
    let top: Int64
    /// Below ``top``, ascending.
    let gaps: [Gap]

    init(line: Int64, top: Int64, gaps: [Gap]) {
        (self.line, self.top, self.gaps) = (line, top, gaps)
    }

    /// Where unread logs stand: in the gaps, and after the top.
    var ranges: [Gap] { gaps + [Gap(after: top, through: .max)] }

    /// The mark of a reader on the way from this mark to `later`, who has read all logs up to `position`.
    package func advanced(through position: Int64, towards later: LogMark) -> LogMark {
        let read = later.gaps.filter { $0.after < position }.map {
            Gap(after: $0.after, through: min($0.through, position))
        }
        let unread = gaps.filter { $0.through > position }.map {
            Gap(after: max($0.after, position), through: $0.through)
        }
        return LogMark(line: line, top: max(top, position), gaps: read + unread)
    }
}

extension LogMark {
    /// `line~top`, and `~after.count` of each gap.
    package var text: String {
        guard gaps.count <= Self.maximumGaps else { return "\(line)~\(top)~*" }
        return gaps.reduce("\(line)~\(top)") { "\($0)~\($1.after).\($1.through - $1.after)" }
    }

    /// The mark that ``text`` wrote; `nil` for another text, and for a mark with too many gaps.
    package init?(text: String) {
        let parts = text.split(separator: "~", omittingEmptySubsequences: false)
        guard (2...2 + Self.maximumGaps).contains(parts.count), let line = Int64(parts[0]), let top = Int64(parts[1])
        else { return nil }
        let gaps = parts.dropFirst(2).compactMap { Gap(text: $0) }
        // The positions of a gap end below the top, and gaps ascend.
        let ends = [Int64.min] + gaps.map(\.through)
        guard gaps.count == parts.count - 2, zip(gaps, ends).allSatisfy({ $0.after >= $1 }), ends.last ?? 0 < top
        else { return nil }
        self.init(line: line, top: top, gaps: gaps)
    }
}

extension LogMark.Gap {
    fileprivate init?(text: Substring) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let after = Int64(parts[0]), let count = Int64(parts[1]), count > 0 else { return nil }
        let (through, overflow) = after.addingReportingOverflow(count)
        guard !overflow else { return nil }
        self.init(after: after, through: through)
    }

    /// What is left of `gaps` without `positions`; both ascend.
    static func removing(_ positions: [Int64], from gaps: [LogMark.Gap]) -> [LogMark.Gap] {
        var rest: [LogMark.Gap] = []
        var next = positions.startIndex
        for gap in gaps {
            var after = gap.after
            while next < positions.endIndex, positions[next] <= gap.after { next += 1 }
            while next < positions.endIndex, positions[next] <= gap.through {
                if positions[next] > after + 1 {
                    rest.append(LogMark.Gap(after: after, through: positions[next] - 1))
                }
                after = positions[next]
                next += 1
            }
            if after < gap.through { rest.append(LogMark.Gap(after: after, through: gap.through)) }
        }
        return rest
    }

    /// The stretches of neighbouring `positions`, which ascend.
    static func runs(of positions: [Int64]) -> [LogMark.Gap] {
        var runs: [LogMark.Gap] = []
        for position in positions {
            if let last = runs.last, last.through == position - 1 {
                runs[runs.count - 1].through = position
            } else {
                runs.append(LogMark.Gap(after: position - 1, through: position))
            }
        }
        return runs
    }
}
