package import Domain
package import Postgres

/// Rows of `api_logs` with the facts of their events, as the texts that PostgreSQL sent.
package struct LogEntries: Sendable {
    private let rows: ResultTexts
    /// Which of ``rows`` these are.
    private let range: Range<Int>
    private let facts: Found
    /// The error messages that ``LogColumn/longMessageBytes`` leaves out of ``rows``.
    private let longMessages: Found?
    private let positions = LogColumn.positions
    fileprivate static let id = LogColumn.positions[LogColumn.position(of: "id")].row
    private static let user = LogColumn.positions[LogColumn.position(of: "user_id")].row
    private static let time = LogColumn.positions[LogColumn.position(of: "occurred_at")].row
    private static let price = LogColumn.positions[LogColumn.position(of: "ledger_cost")].row
    private let message = LogColumn.position(of: "error_message")

    /// The number of logs.
    package var count: Int { range.count }

    /// The UTF-8 bytes of a value by its log and its column in ``LogColumn/all``, both from 0; `nil` for NULL.
    ///
    /// The bytes are valid as long as the entries are.
    package func text(_ entry: Int, _ column: Int) -> UnsafeBufferPointer<UInt8>? {
        let position = positions[column]
        if position.facts >= 0, let row = facts.row(of: entry) { return facts.texts.text(row, position.facts) }
        if column == message, let messages = longMessages, let row = messages.row(of: entry) {
            return messages.texts.text(row, 0)
        }
        return position.row >= 0 ? rows.text(range.lowerBound + entry, position.row) : nil
    }

    /// The id of the user.
    package func user(_ entry: Int) -> Int64 { integer(rows.text(range.lowerBound + entry, Self.user)) }

    /// The id in `api_logs`.
    package func id(_ entry: Int) -> Int64 { integer(rows.text(range.lowerBound + entry, Self.id)) }

    /// Flags of values that another writer wrote: a cost that is none is unpriced, and a time that is none counts in
    /// 1970.
    package func implausibleValues(_ entry: Int) -> [UsageEvent.Flag] {
        let isPriced = rows.text(range.lowerBound + entry, Self.price) != nil
        let hasTime = hasTime(entry)
        if isPriced, hasTime { return [] }
        return (isPriced ? [] : [.implausibleCost]) + (hasTime ? [] : [.implausibleTime])
    }

    /// Whether the time is in the years 1970 to 9998, as `metering.log_facts` has it. The text begins with the year.
    private func hasTime(_ entry: Int) -> Bool {
        guard let text = rows.text(range.lowerBound + entry, Self.time) else { return false }
        let year = text.prefix(4)
        return !year.lexicographicallyPrecedes("1970".utf8) && year.lexicographicallyPrecedes("9999".utf8)
    }
}

extension LogEntries {
    /// What to select of a row `l` of `api_logs`: its columns, and the bytes of a long error message, NULL for others.
    static let columns: Query = """
        \(LogColumn.rowColumns),
        nullif(greatest(octet_length(l.error_message::text), \(unsafeSQL: String(LogColumn.longMessageBytes))),
               \(unsafeSQL: String(LogColumn.longMessageBytes)))
        """

    /// Bytes of long error messages that are read at one time, as far as a single one is not longer.
    private static let messageBytes = 4 << 20

    /// The logs with these ids, in the same order. Missing ids are left out.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(_ ids: [Int64], _ connection: Connection) throws -> LogEntries {
        let rows = try connection.texts(
            """
            SELECT \(columns)
            FROM unnest(\(ids)::bigint[]) WITH ORDINALITY AS i (id, position) JOIN public.api_logs l ON l.id = i.id
            ORDER BY i.position
            """)
        return try LogEntries(rows, 0..<rows.count, connection)
    }

    /// Divides `rows`, which a query of ``columns`` found, so that the long messages of each part fit into memory.
    static func ranges(of rows: ResultTexts) -> [Range<Int>] {
        var (ranges, start, bytes): ([Range<Int>], Int, Int64) = ([], 0, 0)
        for row in 0..<rows.count {
            guard let length = rows.text(row, LogColumn.rowCount).map({ integer($0) }) else { continue }
            if bytes > 0, bytes + length > messageBytes {
                ranges.append(start..<row)
                (start, bytes) = (row, 0)
            }
            bytes += length
        }
        return ranges + [start..<rows.count]
    }

    /// Adds the facts and the long messages to a part of `rows`, which a query of ``columns`` found in the same
    /// snapshot.
    ///
    /// - Throws: ``PostgresError``.
    init(_ rows: ResultTexts, _ range: Range<Int>, _ connection: Connection) throws {
        (self.rows, self.range) = (rows, range)
        let ids = IDs(rows: rows, positions: Array(range))
        facts = Found(
            try connection.texts(Self.factsQuery(ids, Self.keys(of: rows, range))), idColumn: LogColumn.factCount, ids)
        let long = IDs(rows: rows, positions: range.filter { rows.text($0, LogColumn.rowCount) != nil })
        guard !long.positions.isEmpty else {
            longMessages = nil
            return
        }
        let messages = try connection.texts(
            "SELECT l.error_message, l.id FROM public.api_logs l WHERE l.id = ANY(\(long)::bigint[])")
        longMessages = Found(messages, idColumn: 1, ids)
    }

    /// The facts of the rows `ids`, with the id of the row after the columns.
    ///
    /// It asks for the positions of the rows as an array, so that PostgreSQL reads only their entries of the index on
    /// `api_log_id`, however many other events have the same times.
    private static func factsQuery(_ ids: IDs, _ keys: Query) -> Query {
        """
        WITH l AS MATERIALIZED (
            SELECT l.id, \(IDLine.position(of: "l.id")) AS position, l.user_id, l.created_at,
                   coalesce(l.model, 'unknown') AS model, \(LogRow.whole("l.input_tokens")) AS input_tokens,
                   \(LogRow.whole("l.output_tokens")) AS output_tokens, coalesce(l.status, 'success') AS status
            FROM public.api_logs l WHERE l.id = ANY(\(ids)::bigint[])
        )
        SELECT \(LogColumn.factColumns), l.id
        FROM metering.events e JOIN l ON e.api_log_id = l.position AND \(IDLine.isSameCall)
        WHERE e.api_log_id = ANY(ARRAY(SELECT l.position FROM l)) AND \(keys)
        """
    }

    /// The range of keys that the events of `rows` can have, so that only partitions of their months are read.
    ///
    /// A key begins with the time of its event, or with its arrival at most 24 hours before that. The row has the time
    /// cut to its second. A key that the sender chose is after all of these.
    private static func keys(of rows: ResultTexts, _ range: Range<Int>) -> Query {
        // The texts of times sort like the times.
        var (first, last): (UnsafeBufferPointer<UInt8>?, UnsafeBufferPointer<UInt8>?) = (nil, nil)
        for row in range {
            guard let text = rows.text(row, time) else { return "true" }
            if first.map({ text.lexicographicallyPrecedes($0) }) ?? true { first = text }
            if last.map({ $0.lexicographicallyPrecedes(text) }) ?? true { last = text }
        }
        guard let first = first.flatMap(moment), let last = last.flatMap(moment) else { return "true" }
        let (low, high) = (EventKey.first(at: first), EventKey.first(at: last.advanced(by: .seconds(90_000))))
        return """
            ((e.event_key >= \(low.description)::uuid AND e.event_key < \(high.description)::uuid)
             OR e.event_key >= \(EventKey.firstNamed.description)::uuid)
            """
    }

    private static func moment(_ text: UnsafeBufferPointer<UInt8>) -> Timestamp? {
        Timestamp(rfc3339: String(decoding: text, as: UTF8.self) + "Z")
    }

    /// The ids of rows, as an array.
    fileprivate struct IDs: PostgresEncodable {
        let rows: ResultTexts
        /// Which of ``rows`` they are.
        let positions: [Int]

        func encode(into text: inout [UInt8]) -> Bool {
            text.append(UInt8(ascii: "{"))
            for (index, position) in positions.enumerated() {
                if index > 0 { text.append(UInt8(ascii: ",")) }
                if let id = rows.text(position, LogEntries.id) { text.append(contentsOf: id) }
            }
            text.append(UInt8(ascii: "}"))
            return true
        }
    }

    /// What a second query found for some of the logs.
    fileprivate struct Found: Sendable {
        let texts: ResultTexts
        /// The row of ``texts`` for each log; -1 for a log without one. Empty where no log has one.
        private let rows: [Int]

        /// `texts` have the ids of the rows in `idColumn`.
        init(_ texts: ResultTexts, idColumn: Int, _ ids: IDs) {
            self.texts = texts
            guard texts.count > 0 else {
                rows = []
                return
            }
            var found: [Int64: Int] = Dictionary(minimumCapacity: texts.count)
            for row in 0..<texts.count { found[integer(texts.text(row, idColumn))] = row }
            rows = ids.positions.map { found[integer(ids.rows.text($0, LogEntries.id))] ?? -1 }
        }

        func row(of entry: Int) -> Int? { rows.isEmpty || rows[entry] < 0 ? nil : rows[entry] }
    }
}

private func integer(_ text: UnsafeBufferPointer<UInt8>?) -> Int64 {
    text.flatMap { Int64(text: ArraySlice($0)) } ?? 0
}
