import Domain
import HTTPSupport
import HTTPTypes
import Postgres
import Storage

/// `/api/v1/logs`: the logs, page by page or as one export.
struct LogController: Sendable {
    let database: Database

    private static let filters: [Parameter] =
        [
            .query("user_id", .integer(1...Int.max), "Whose logs. Only administrators may name somebody else."),
            .repeated("model", .text(255), "Only these models.", example: "gpt-4o"),
            .repeated("provider", .text(255), "Only these providers.", example: "openai"),
            .repeated("status", .choice(EventStatus.allCases.map(\.rawValue)), "Only these outcomes."),
            .repeated("flag", .choice(UsageEvent.Flag.allCases.map(\.rawValue)), "Only logs with one of these flags."),
            .query("min_cost", .amount, "Cost at least so much, in USD."),
            .query("min_duration", .integer(0...Int(Int32.max)), "Took at least so many milliseconds."),
            .query("search", .text(255), "Only logs with these words in the error message.", example: "timeout"),
        ] + Period.parameters

    private static let page = Schema.object([
        "data": Schema.list(Schema.log), "next_cursor": Schema.optional(Schema.string),
    ]).named("LogPage")

    var listLogs: Operation {
        Operation(
            "Logs, newest first. Logs without a time come before all others. As text/csv or application/x-ndjson, "
                + "all logs at once; the last line has their number, total cost and SHA-256.",
            Self.filters + [
                .query(
                    "sort", .choice(LogList.Order.allCases.map(\.rawValue)),
                    "The largest first; time by default. Logs of all users by cost or duration need a range of at most "
                        + "366 days. Logs without a price come last."),
                .query("limit", .integer(1...1000), "Logs on a page; 100 by default."),
                .query("cursor", .text(1024), "`next_cursor` of the page before."),
            ], content: Format.content(Self.page)
        ) { try await list($0) }
    }

    var getLog: Operation {
        Operation("One log with all its fields.", [.id()], content: [("application/json", Schema.log)]) {
            try await show($0)
        }
    }

    private func list(_ request: APIRequest) async throws -> APIResponse {
        if request.format != .json { return try await export(request) }
        let order = request.text("sort").flatMap(LogList.Order.init(rawValue:)) ?? .time
        let limit = request.integer("limit") ?? 100
        let cursor = try request.text("cursor").map { try Self.cursor($0, order) }
        let (entries, next) = try await database.snapshot { connection in
            let filter = try request.logFilter(connection)
            if order != .time, filter.userID == nil { try Self.requireBounds(of: filter, order, now: request.now) }
            let page = try LogList.read(filter, by: order, after: cursor, limit: limit, connection)
            return (try LogEntries.read(page.ids, connection), page.next)
        }
        var bytes = Array("{\"data\":[".utf8)
        for index in 0..<entries.count {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            LogLine.appendObject(entries, index, to: &bytes)
        }
        bytes += "],\"next_cursor\":".utf8
        next.map { Cursor.encode([order.rawValue, $0.value, "\($0.id)"]) }.json.append(to: &bytes)
        return .json(bytes + [UInt8(ascii: "}")])
    }

    /// Requires a range of at most 366 days, because all logs of the range are read to be sorted.
    ///
    /// - Throws: ``AppError`` `.invalid` for a range that is open or too long.
    private static func requireBounds(of filter: LogFilter, _ order: LogList.Order, now: Timestamp) throws {
        let limit = Duration.seconds(366 * 86_400)
        guard let from = filter.from, filter.to ?? now <= from.advanced(by: limit) else {
            throw AppError(
                .invalid,
                "All users' calls are sorted by \(order.rawValue) in a range of at most 366 days: "
                    + "state from and to, or a user_id.",
                cause: .rangeRequired)
        }
    }

    private static func cursor(_ text: String, _ order: LogList.Order) throws -> LogList.Cursor {
        let parts = try Cursor.decode(text, count: 3)
        guard parts[0] == order.rawValue, let id = Int64(parts[2]) else { throw Cursor.invalid }
        return LogList.Cursor(value: parts[1], id: id)
    }

    private func show(_ request: APIRequest) async throws -> APIResponse {
        let (id, user) = (try request.id(), try request.user)
        let entries = try await database.snapshot { try LogEntries.read([id], $0) }
        // Another user's log is answered like a missing one.
        guard entries.count == 1, entries.user(0) == user.id || user.isAdmin else {
            throw AppError(.notFound, "There is no log \(id).")
        }
        var bytes: [UInt8] = []
        LogLine.appendObject(entries, 0, to: &bytes)
        return .json(bytes)
    }

    private func export(_ request: APIRequest) async throws -> APIResponse {
        guard request.text("cursor") == nil, [nil, "time"].contains(request.text("sort")) else {
            throw AppError(.invalid, "An export has all calls in the order of time: leave out cursor and sort.")
        }
        let filter = try await database.read { try request.logFilter($0) }
        let format = request.format
        return try database.export(to: try request.user.id, as: format.contentType, LogExport(format)) {
            connection, send in
            try LogStream.forEachBatch(filter, connection, send)
        }
    }
}

extension APIRequest {
    /// The user whose logs or usage are asked for: the caller; for administrators any user, or `nil` for all users.
    ///
    /// - Throws: ``AppError`` `.forbidden` when a user asks for another one.
    var subject: Int64? {
        get throws {
            let user = try user
            let named = integer("user_id").map(Int64.init)
            guard !user.isAdmin else { return named }
            guard named == nil || named == user.id else { throw AppError(.forbidden, "You may only see your own.") }
            return user.id
        }
    }

    /// The filter of the parameters of `/api/v1/logs`.
    func logFilter(_ connection: Connection) throws -> LogFilter {
        var filter = LogFilter(userID: try subject)
        filter.models = texts("model")
        filter.providers = texts("provider")
        filter.statuses = texts("status")
        filter.flags = texts("flag")
        filter.minimumCost = amount("min_cost")
        filter.minimumDurationMilliseconds = integer("min_duration").map(Int64.init)
        filter.errorText = text("search")
        let zone = try Period.zone(of: self, connection)
        (filter.from, filter.to) = try Period.bounds(of: self, zone, connection)
        return filter
    }
}
