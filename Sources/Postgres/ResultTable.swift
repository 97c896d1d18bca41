/// The rows of one result in two allocations: all values end to end, and where each ends.
final class ResultTable: Sendable {
    let columns: [String]
    private let bytes: [UInt8]
    private let cells: [Range<Int>?]

    init(columns: [String], bytes: [UInt8], cells: [Range<Int>?]) {
        self.columns = columns
        self.bytes = bytes
        self.cells = cells
    }

    /// The text of one field; `nil` is NULL.
    subscript(row: Int, column: Int) -> ArraySlice<UInt8>? {
        cells[row * columns.count + column].map { bytes[$0] }
    }
}
