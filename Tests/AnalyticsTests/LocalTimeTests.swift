import Analytics
import Domain
import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import Analytics

/// Local hours, days, weeks and months begin where Python's zoneinfo has them: all zones, all changes of 2020 to 2030.
///
/// Both read the system's tzdata here (`scripts/zone-buckets`; PostgreSQL as Debian builds it). In production the zones
/// are those of the database server, and nothing else is asked.
@Suite(.timeLimit(.minutes(30))) struct LocalTimeTests {
    private struct Line: Sendable {
        var zones: [String]
        var kind: String
        var from: String
        var to: String
        var boundaries: [Int]

        init?(_ text: Substring) {
            let fields = text.split(separator: " ")
            guard fields.count == 5 else { return nil }
            zones = fields[0].split(separator: ",").map(String.init)
            (kind, from, to) = (String(fields[1]), String(fields[2]), String(fields[3]))
            boundaries = fields[4].split(separator: ",").compactMap { Int($0) }
        }
    }

    @Test func bucketsAreThoseOfZoneinfo() async throws {
        let output = try await Command.run(
            Checkout.root.appending(path: "scripts/zone-buckets").path(), [], within: .seconds(300))
        let lines = output.split(separator: "\n").compactMap(Line.init)
        #expect(Set(lines.flatMap(\.zones)).count > 500)
        #expect(lines.count { $0.kind == "hour" } > 700 && lines.count { $0.kind == "local" } > 3_000)
        try await withTestDatabase { database in
            let (differences, compared) = try await database.pool(as: .admin).withConnection { connection in
                var (differences, compared): ([String], Int) = ([], 0)
                for line in lines {
                    for zone in line.zones {
                        let zone = try TimeZoneName.require(zone, connection)
                        let found = try Self.found(line, zone, connection)
                        compared += 1
                        if found != line.boundaries {
                            let more = Set(found).subtracting(line.boundaries).sorted()
                            let fewer = Set(line.boundaries).subtracting(found).sorted()
                            differences.append("\(zone) \(line.kind) \(line.from): \(more), not \(fewer)")
                        }
                    }
                }
                return (differences, compared)
            }
            #expect(differences.prefix(20) == [])
            #expect(compared > 10_000)
        }
    }

    private static func found(_ line: Line, _ zone: TimeZoneName, _ connection: Connection) throws -> [Int] {
        guard let granularity = Granularity(rawValue: line.kind) else {
            return [QuarterHour.holding(try zone.start(of: line.from, connection))]
        }
        guard let from = Int(line.from), let to = Int(line.to) else { return [] }
        return try granularity.boundaries(of: ReportRange(quarterHours: from..<to, zone: zone), connection)
    }

    private static let moments = [
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00.000Z"),
        ("2011-12-31", "Pacific/Apia", "2011-12-30T10:00:00.000Z"),
        ("2026-10-25", "Atlantic/Azores", "2026-10-25T00:00:00.000Z"),
        ("2026-10-25T00:30", "Atlantic/Azores", "2026-10-25T00:30:00.000Z"),
        ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00.000Z"),
        ("2026-04-24T00:30:15", "Africa/Cairo", "2026-04-23T22:00:00.000Z"),
        // PostgreSQL takes these for abbreviations, without summer time.
        ("2026-07-01", "CET", "2026-06-30T22:00:00.000Z"), ("2026-07-01", "Turkey", "2026-06-30T21:00:00.000Z"),
    ]

    /// A whole day that a zone skipped begins with the next, and a gap that holds midnight ends the day before.
    /// Asked for together, days begin when each of them does: also where midnight is skipped, comes twice, or the day
    /// is missing.
    @Test func manyDaysBeginAsEachOfThem() async throws {
        let days = ["2026-11-29", "2026-04-24", "2026-10-25", "2011-12-30", "2026-11-01", "2026-11-29"]
            .compactMap { CalendarDate($0) }
        try await withTestDatabase { database in
            try await database.pool(as: .admin).withConnection { connection in
                for name in ["UTC", "Africa/Cairo", "Europe/Istanbul", "Pacific/Apia", "America/Havana"] {
                    let zone = try TimeZoneName.require(name, connection)
                    let each = try days.map { try zone.start(of: "\($0)", connection) }
                    #expect(try zone.starts(of: days, connection) == each, "\(name)")
                }
            }
        }
    }

    @Test func daysThatNeverWere() async throws {
        try await withTestDatabase { database in
            try await database.pool(as: .admin).withConnection { connection in
                for (local, name, expected) in Self.moments {
                    let zone = try TimeZoneName.require(name, connection)
                    let found = try zone.start(of: local, connection).rfc3339
                    #expect(found == expected, "\(local) \(name)")
                }
                for name in ["X/Y+3", "IST", "CEST", "ABC5", "localtime", "turkey", "", "Europe/Nowhere"] {
                    #expect(throws: AppError.self, "\(name)") { try TimeZoneName.require(name, connection) }
                }
                for local in ["2026-02-30", "2026-10-25T24:00", "2026-10-25T1:00", "infinity", "2026-10-25T00:60"] {
                    #expect(throws: AppError.self, "\(local)") { try TimeZoneName.utc.start(of: local, connection) }
                }
            }
        }
    }
}
