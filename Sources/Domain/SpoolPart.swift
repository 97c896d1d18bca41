/// Which events of a sender's spool a body holds: LiteLLM's workers number theirs without holes.
package struct SpoolPart: Sendable, Hashable {
    /// The spool's own id, in UUID form.
    package let spool: String
    package let numbers: ClosedRange<Int64>
    /// Events for which the sender had no room, since it started.
    package let lost: Int64

    /// `nil` where `spool` is no UUID in lower case, or the numbers are none.
    package init?(spool: String, first: Int64, count: Int, lost: Int64) {
        let (last, overflow) = first.addingReportingOverflow(Int64(count) - 1)
        let groups = spool.split(separator: "-", omittingEmptySubsequences: false).map(\.utf8.count)
        let isHexadecimal = [UInt8](lowercaseHex: spool.replacing("-", with: "")) != nil
        guard isHexadecimal, groups == [8, 4, 4, 4, 12], first > 0, count > 0, !overflow, last < .max, lost >= 0
        else { return nil }
        self.spool = spool
        numbers = first...last
        self.lost = lost
    }
}
