import Domain
import Foundation
import HTTPSupport
import NIOCore

/// The place where a page ended, as an opaque text: what it was sorted by and its last row.
enum Cursor {
    /// `parts` as one text for a URL.
    static func encode(_ parts: [String]) -> String {
        let json = JSON.array(parts.map(JSON.string)).buffer
        return Data(json.readableBytesView).base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    /// The `count` parts of a text that ``encode(_:)`` made.
    ///
    /// - Throws: ``AppError`` `.invalid` for any other text.
    static func decode(_ text: String, count: Int) throws -> [String] {
        let padded = text.replacing("-", with: "+").replacing("_", with: "/")
        let filled = padded + String(repeating: "=", count: (4 - padded.utf8.count % 4) % 4)
        guard let data = Data(base64Encoded: filled), let elements = JSON(parsing: Array(data))?.elements,
            elements.count == count
        else { throw invalid }
        let parts = elements.compactMap(\.text)
        guard parts.count == count, !parts.contains(where: { $0.utf8.contains(0) }) else { throw invalid }
        return parts
    }

    static let invalid = AppError(.invalid, "The cursor is not one that an answer of this query gave.")
}
