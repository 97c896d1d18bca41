import Analytics
import Domain
import NIOCore
import Postgres
import Storage

/// One read of the database for all streams: what is new, and what readers need who have just come. All of it is of one
/// snapshot.
struct LiveRound: Sendable {
    /// A reader that comes back.
    struct Return: Sendable {
        let reader: ObjectIdentifier
        let user: Int64?
        let mark: LogMark
    }

    /// What the round finds.
    struct Findings: Sendable {
        var tail: LogTail
        var step: LogTail.Step
        /// Encoded events of new logs, by position.
        var events: [Int64: ByteBuffer] = [:]
        var growth: [LiveUsage.Growth] = []
        /// Usage that was read anew.
        var usage: [LiveScope: LiveUsage] = [:]
        /// The events that a reader has missed; `nil` where they are too many or not known. Readers that are not in it
        /// wait for the next round.
        var missed: [ObjectIdentifier: [ByteBuffer]?] = [:]
        var asOf: Timestamp
    }

    /// New logs that a reader gets of one round; the newest.
    static let logsOfRound = 50
    /// Logs that a reader gets who comes back.
    static let logsOfReturn = 1_000
    /// How long a round may read what readers have missed. The others wait for the next round.
    private static let timeOfReturns = Duration.seconds(1)
    /// Bytes of events that a reader gets who comes back.
    private static let bytesOfReturn = LiveReader.maximumBytes * 3 / 4

    /// `nil` at first.
    let tail: LogTail?
    /// Whose new logs are read; `nil` for all users.
    let users: Set<Int64>?
    let returns: [Return]
    /// The scopes whose usage is read anew.
    let due: [LiveScope]
    /// The periods of zones, as far as they are known.
    let periods: [TimeZoneName: LivePeriods]
    let now: Timestamp

    /// Reads on one connection, which it holds for the moment.
    ///
    /// - Throws: ``PostgresError``; ``RollupState/Missing``.
    func read(_ connection: Connection) throws -> Findings {
        var tail = tail
        if tail?.needsWriters == true { try tail?.note(writersOn: connection) }
        return try ReportSnapshot.take(connection) { [tail] snapshot in
            var findings = try Self.step(tail, on: snapshot)
            try readLogs(&findings, on: snapshot)
            guard findings.step.isComplete else { return findings }
            let end = ContinuousClock.now + Self.timeOfReturns
            for back in returns where ContinuousClock.now < end {
                findings.missed.updateValue(try missed(back, findings.tail, on: snapshot), forKey: back.reader)
            }
            findings.usage = try usage(on: snapshot)
            return findings
        }
    }

    private static func step(_ tail: LogTail?, on snapshot: ReportSnapshot) throws -> Findings {
        guard var tail else {
            return Findings(tail: try .begin(on: snapshot), step: LogTail.Step(), asOf: snapshot.asOf)
        }
        let step = try tail.advance(on: snapshot)
        return Findings(tail: tail, step: step, asOf: snapshot.asOf)
    }

    /// Reads the new logs that somebody gets, and what all of them add.
    private func readLogs(_ findings: inout Findings, on snapshot: ReportSnapshot) throws {
        let entries = findings.step.entries
        guard let before = tail?.mark, !entries.isEmpty else { return }
        let wanted = Self.newest(of: entries, users)
        for (entry, event) in try Self.events(wanted, from: before, to: findings.tail.mark, snapshot.connection) {
            findings.events[entry.position] = event
        }
        findings.growth = try LiveUsage.growth(by: entries, of: users, on: snapshot)
    }

    /// The newest short logs of each of `users`, or of all of them together.
    private static func newest(of entries: [LogTail.Entry], _ users: Set<Int64>?) -> [LogTail.Entry] {
        var wanted: Set<Int64> = users == nil ? Set(sent(of: entries).map(\.position)) : []
        for (user, own) in Dictionary(grouping: entries, by: \.user) where users?.contains(user) ?? true {
            wanted.formUnion(sent(of: own).map(\.position))
        }
        return entries.filter { wanted.contains($0.position) }
    }

    /// Those of a scope's new logs that are sent.
    static func sent(of entries: [LogTail.Entry]) -> ArraySlice<LogTail.Entry> {
        entries.filter { !$0.isLong }.suffix(logsOfRound)
    }

    private static func events(
        _ entries: [LogTail.Entry], from start: LogMark, to end: LogMark, _ connection: Connection
    ) throws -> [(LogTail.Entry, ByteBuffer)] {
        guard !entries.isEmpty else { return [] }
        let lines = try LogEntries.read(entries.map(\.id), connection)
        let byID = Dictionary(entries.map { ($0.id, $0) }) { first, _ in first }
        return (0..<lines.count).compactMap { index in
            guard let entry = byID[lines.id(index)] else { return nil }
            return (entry, LiveEvent.log(lines, index, start.advanced(through: entry.position, towards: end)))
        }
    }

    private func missed(
        _ back: Return, _ tail: LogTail, on snapshot: ReportSnapshot
    ) throws -> [ByteBuffer]? {
        let limit = Self.logsOfReturn
        guard let entries = try tail.missed(since: back.mark, of: back.user, limit: limit, on: snapshot),
            !entries.contains(where: \.isLong)
        else { return nil }
        let events = try Self.events(entries, from: back.mark, to: tail.mark, snapshot.connection).map(\.1)
        return events.reduce(0) { $0 + $1.readableBytes } <= Self.bytesOfReturn ? events : nil
    }

    /// The usage of the scopes that are due: users of one zone together.
    private func usage(on snapshot: ReportSnapshot) throws -> [LiveScope: LiveUsage] {
        var usage: [LiveScope: LiveUsage] = [:]
        for (zone, scopes) in Dictionary(grouping: due, by: \.zone) {
            let periods = try periods[zone] ?? .read(zone, now: now, snapshot.connection)
            let users = scopes.compactMap(\.user)
            var found = users.isEmpty ? [:] : try LiveUsage.read(users, periods, on: snapshot)
            if scopes.contains(where: { $0.user == nil }) {
                found.merge(try LiveUsage.read(nil, periods, on: snapshot)) { _, all in all }
            }
            for (user, value) in found { usage[LiveScope(user: user, zone: zone)] = value }
        }
        return usage
    }
}
