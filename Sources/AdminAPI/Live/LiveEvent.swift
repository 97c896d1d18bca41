import Analytics
import Domain
import HTTPSupport
import NIOCore
import Storage

/// Events as a stream has them (html.spec.whatwg.org, "Server-sent events").
enum LiveEvent {
    /// The first bytes of a stream: how long a browser waits before it connects again, in milliseconds.
    static let prelude = ByteBuffer(string: "retry: 2000\n\n")

    /// A line that clients ignore.
    static func comment(_ text: String) -> ByteBuffer { ByteBuffer(string: ": \(text)\n\n") }

    /// Says how far the client has read, and keeps proxies from closing the connection.
    static func heartbeat(_ mark: LogMark?) -> ByteBuffer {
        guard let mark else { return comment("waiting for the database") }
        // An event without data only sets the last event id.
        return ByteBuffer(string: ": \nid: \(mark.text)\n\n")
    }

    /// One new log.
    static func log(_ entries: LogEntries, _ index: Int, _ mark: LogMark) -> ByteBuffer {
        var bytes = Array("event: log\nid: \(mark.text)\ndata: ".utf8)
        LogLine.appendObject(entries, index, to: &bytes)
        bytes += "\n\n".utf8
        return ByteBuffer(bytes: bytes)
    }

    /// What the scope used.
    static func totals(_ totals: Totals, _ mark: LogMark) -> ByteBuffer {
        event("totals", Totals.type.json(totals), mark)
    }

    /// Asks the client to read everything again.
    static func reset(_ reason: Reset, _ mark: LogMark) -> ByteBuffer {
        event("reset", Reset.type.json(reason), mark)
    }

    private static func event(_ name: String, _ data: JSON, _ mark: LogMark) -> ByteBuffer {
        var bytes = Array("event: \(name)\nid: \(mark.text)\ndata: ".utf8)
        data.append(to: &bytes)
        bytes += "\n\n".utf8
        return ByteBuffer(bytes: bytes)
    }
}

extension LiveEvent {
    /// The data of the event `totals`.
    struct Totals: Sendable {
        let usage: LiveUsage
        /// New logs that were not sent, since the totals before.
        let leftOut: Int
        let asOf: Timestamp

        static let type = JSONType<Totals>.object(
            "LiveTotals",
            [
                Field("timezone", .string, example: "Europe/Istanbul", \.usage.periods.day.zone.name),
                Field("today_from", .time, \.usage.periods.day.from),
                Field("today", Usage.json) { Usage($0.usage.today.sums, $0.usage.today.latency) },
                Field("month_from", .time, \.usage.periods.month.from),
                Field("month", Usage.json) { Usage($0.usage.month.sums, $0.usage.month.latency) },
                Field("left_out_logs", .integer, example: 0, \.leftOut), Field("as_of", .time, \.asOf),
            ])
    }

    /// Why a client is to read everything again.
    enum Reset: String, Sendable, CaseIterable {
        /// It read too slowly.
        case slow
        /// Its last event is too old, or more logs are new than are sent at once.
        case tooOld = "too_old"
        /// The ids of the logs began again, or too many transactions were open.
        case unknown

        static let type = JSONType<Reset>.object(
            "LiveReset", [Field("reason", .choice(allCases.map(\.rawValue), "LiveResetReason"), \.rawValue)])
    }

    /// One event of a stream, for `/openapi.json`.
    static let schema: JSON = [
        "anyOf": .array(
            [("log", Schema.log), ("totals", Totals.type.schema), ("reset", Reset.type.schema)].map { name, data in
                Schema.object([
                    "event": Schema.choice([name]), "id": Schema.string,
                    "data": [
                        "type": "string", "contentMediaType": "application/json", "contentSchema": data,
                    ],
                ])
            })
    ]
}
