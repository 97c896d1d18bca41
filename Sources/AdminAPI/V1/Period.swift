import Domain
import Postgres
import Storage

/// The parameters by which a question names a stretch of time (`design.md` §7).
enum Period {
    static let parameters: [Parameter] = [
        .query("from", .moment, "The first moment; a date, or a time without an offset, is the timezone's."),
        .query("to", .moment, "The first moment behind the last."),
        .query("timezone", .zone, "An IANA name such as Europe/Istanbul; UTC unless said."),
    ]

    private static let standard = Duration.seconds(30 * 86_400)
    private static let quarter = Duration.seconds(900)

    static func zone(of call: Call, _ connection: Connection) throws -> TimeZoneName {
        try call.text("timezone").map { try TimeZoneName.require($0, connection) } ?? .utc
    }

    /// The moment of the parameter `name`.
    static func moment(
        _ name: String, of call: Call, _ zone: TimeZoneName, _ connection: Connection
    ) throws -> Timestamp? {
        guard let text = call.text(name) else { return nil }
        return try Timestamp(rfc3339: text) ?? zone.start(of: text, connection)
    }

    /// The range that the parameters say; the last 30 days up to now where they say nothing.
    static func range(of call: Call, _ connection: Connection) throws -> ReportRange {
        let zone = try zone(of: call, connection)
        let to = try moment("to", of: call, zone, connection) ?? call.now.advanced(by: quarter)
        let from = try moment("from", of: call, zone, connection) ?? to.advanced(by: .zero - standard)
        return try ReportRange(from: from, to: to, zone: zone)
    }
}
