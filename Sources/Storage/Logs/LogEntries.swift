package import Domain
package import Postgres

/// Rows of `api_logs` with the facts of their events, as the texts that PostgreSQL sent.
package struct LogEntries: Sendable {
    private let rows: ResultTexts
    private let facts: ResultTexts
    /// The row of `facts` for each of `rows`; -1 for a row without facts. Empty where no row has facts.
    private let factRows: [Int]
    private let positions = LogColumn.positions
    private let id = LogColumn.positions[LogColumn.position(of: "id")].row
    private let user = LogColumn.positions[LogColumn.position(of: "user_id")].row
    private let time = LogColumn.positions[LogColumn.position(of: "occurred_at")].row
    private let price = LogColumn.positions[LogColumn.position(of: "ledger_cost")].row

    /// The number of logs.
    package var count: Int { rows.count }

    /// The UTF-8 bytes of a value by its log and its column in ``LogColumn/all``, both from 0; `nil` for NULL.
    ///
    /// The bytes are valid as long as the entries are.
    package func text(_ entry: Int, _ column: Int) -> UnsafeBufferPointer<UInt8>? {
        let position = positions[column]
        if position.facts >= 0, !factRows.isEmpty, factRows[entry] >= 0 {
            return facts.text(factRows[entry], position.facts)
        }
        return position.row >= 0 ? rows.text(entry, position.row) : nil
    }

    /// The id of the user.
    package func user(_ entry: Int) -> Int64 { Self.integer(rows.text(entry, user)) }

    /// The id in `api_logs`.
    package func id(_ entry: Int) -> Int64 { Self.integer(rows.text(entry, id)) }

    /// Flags of values that another writer wrote: a cost that is none is unpriced, and a time that is none counts in
    /// 1970.
    package func implausibleValues(_ entry: Int) -> [UsageEvent.Flag] {
        let isPriced = rows.text(entry, price) != nil
        let hasTime = hasTime(entry)
        if isPriced, hasTime { return [] }
        return (isPriced ? [] : [.implausibleCost]) + (hasTime ? [] : [.implausibleTime])
    }

    /// Whether the time is in the years 1970 to 9998, as `metering.log_facts` has it. The text begins with the year.
    private func hasTime(_ entry: Int) -> Bool {
        guard let text = rows.text(entry, time) else { return false }
        let year = text.prefix(4)
        return !year.lexicographicallyPrecedes("1970".utf8) && year.lexicographicallyPrecedes("9999".utf8)
    }
}

extension LogEntries {
    /// The logs with these ids, in the same order. Missing ids are left out.
    ///
    /// - Throws: ``PostgresError``.
    package static func read(_ ids: [Int64], _ connection: Connection) throws -> LogEntries {
        try LogEntries(
            try connection.texts(
                """
                SELECT \(LogColumn.rowColumns)
                FROM unnest(\(ids)::bigint[]) WITH ORDINALITY AS i (id, position) JOIN public.api_logs l ON l.id = i.id
                ORDER BY i.position
                """), connection)
    }

    /// Adds the facts to `rows`, which a query of ``LogColumn/rowColumns`` found in the same snapshot.
    init(_ rows: ResultTexts, _ connection: Connection) throws {
        self.rows = rows
        facts = try connection.texts(Self.factsQuery(of: rows, id: id, time: time))
        guard facts.count > 0 else {
            factRows = []
            return
        }
        let last = LogColumn.factCount
        var found: [Int64: Int] = Dictionary(minimumCapacity: facts.count)
        for fact in 0..<facts.count { found[Self.integer(facts.text(fact, last))] = fact }
        var factRows: [Int] = []
        factRows.reserveCapacity(rows.count)
        for row in 0..<rows.count { factRows.append(found[Self.integer(rows.text(row, id))] ?? -1) }
        self.factRows = factRows
    }

    private static func integer(_ text: UnsafeBufferPointer<UInt8>?) -> Int64 {
        text.flatMap { Int64(text: ArraySlice($0)) } ?? 0
    }

    /// The facts of `rows`, with the id of the row after the columns.
    ///
    /// It asks for the positions of the rows as an array, so that PostgreSQL reads only their entries of the index on
    /// `api_log_id`, however many other events have the same times.
    private static func factsQuery(of rows: ResultTexts, id: Int, time: Int) -> Query {
        let ids = IDs(rows: rows, column: id)
        return """
            WITH l AS MATERIALIZED (
                SELECT l.id, \(IDLine.position(of: "l.id")) AS position, l.user_id, l.created_at, coalesce(l.model, 'unknown') AS model,
                       \(LogRow.whole("l.input_tokens")) AS input_tokens,
                       \(LogRow.whole("l.output_tokens")) AS output_tokens, coalesce(l.status, 'success') AS status
                FROM public.api_logs l WHERE l.id = ANY(\(ids)::bigint[])
            )
            SELECT \(LogColumn.factColumns), l.id
            FROM metering.events e JOIN l ON e.api_log_id = l.position AND \(IDLine.isSameCall)
            WHERE e.api_log_id = ANY(ARRAY(SELECT l.position FROM l)) AND \(keys(of: rows, time))
            """
    }

    /// The ids of rows as an array.
    private struct IDs: PostgresEncodable {
        let rows: ResultTexts
        let column: Int

        func encode(into text: inout [UInt8]) -> Bool {
            text.append(UInt8(ascii: "{"))
            for row in 0..<rows.count {
                if row > 0 { text.append(UInt8(ascii: ",")) }
                if let id = rows.text(row, column) { text.append(contentsOf: id) }
            }
            text.append(UInt8(ascii: "}"))
            return true
        }
    }

    /// The range of keys that the events of `rows` can have, so that only partitions of their months are read.
    ///
    /// A key begins with the time of its event, or with its arrival at most 24 hours before that. The row has the time
    /// cut to its second. A key that the sender chose is after all of these.
    private static func keys(of rows: ResultTexts, _ time: Int) -> Query {
        // The texts of times sort like the times.
        var (first, last): (UnsafeBufferPointer<UInt8>?, UnsafeBufferPointer<UInt8>?) = (nil, nil)
        for row in 0..<rows.count {
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
}
