import Domain
import HTTPSupport
import Hummingbird
import Storage

/// Where a page of a breakdown ended, and of which question it is one: its range is that of the first page, so that no page
/// skips to another day.
struct BreakdownCursor {
    let place: UsageBreakdown.Place
    private let from: Timestamp
    private let to: Timestamp
    private let question: String

    /// The cursor of the page that ended at `place`.
    init(_ place: UsageBreakdown.Place, _ range: ReportRange, _ call: Call) {
        self.place = place
        (from, to, question) = (range.from, range.to, Self.question(of: call))
    }

    /// The cursor that `call` gives; `nil` where it gives none.
    ///
    /// - Throws: ``AppError`` `.invalid` for one of another grouping or order, and for one that no answer gives.
    init?(of call: Call) throws {
        guard let text = call.text("cursor") else { return nil }
        let parts = try Cursor.decode(text, count: 5)
        question = Self.question(of: call)
        guard parts[0] == question, let from = Timestamp(rfc3339: parts[1]), let to = Timestamp(rfc3339: parts[2]),
            Self.isWeight(parts[3]), let weight = DecimalLiteral(parts[3])
        else { throw Cursor.invalid }
        (self.from, self.to) = (from, to)
        // A group without a name is not one whose name is empty.
        place = UsageBreakdown.Place(weight: weight, key: parts[4].isEmpty ? nil : String(parts[4].dropFirst()))
        guard call.text("group_by") != UsageGroup.user.rawValue || place.key.flatMap(Int64.init) != nil else {
            throw Cursor.invalid
        }
    }

    /// For a URL.
    var text: String {
        Cursor.encode([question, from.rfc3339, to.rfc3339, place.weight.text, place.key.map { "=" + $0 } ?? ""])
    }

    /// The range of the pages, which is what `call` asks for as far as it names one.
    ///
    /// - Throws: ``AppError`` `.invalid` where it names another.
    func range(for call: Call, asking asked: ReportRange) throws -> ReportRange {
        guard call.text("from") == nil || asked.from == from, call.text("to") == nil || asked.to == to else {
            throw Cursor.invalid
        }
        return try ReportRange(from: from, to: to, zone: asked.zone)
    }

    /// Whether it is a sum as PostgreSQL writes it: plain digits, and not more of them than a sum ever has.
    private static func isWeight(_ text: String) -> Bool {
        text.utf8.count <= 60 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2E || $0 == 0x2D }
    }

    private static func question(of call: Call) -> String {
        "\(call.text("group_by") ?? UsageGroup.model.rawValue) \(call.ranking.rawValue)"
    }
}

extension Call {
    /// The header by which an answer without room for a cursor names the page behind it (RFC 8288).
    func link(toPage cursor: String) -> String {
        let others = (request.uri.query ?? "").split(separator: "&").filter { pair in
            FormField.parse(pair.utf8).first?.name != "cursor"
        }
        return "<\(request.uri.path)?\((others + ["cursor=\(cursor)"]).joined(separator: "&"))>; rel=\"next\""
    }
}
