import Domain
import HTTPSupport
import Postgres
import Storage

/// The operator's page of the doctor's lines, as far as this program's database role may see what they are about.
struct HealthPage: Sendable {
    let examination: HealthExamination

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        let result = await examination.result()
        let rollups = try await request.json("getRollupStatus")
        let spools = try await request.json("listSpools", request.query(["cursor"]) + [("limit", "50")])
        let groups = HealthExamination.Level.allCases.compactMap { level -> JSON? in
            let lines = result.lines.filter { $0.level == level }
            guard !lines.isEmpty else { return nil }
            return [
                "level": .string(level.rawValue), "lines_count": .integer(lines.count),
                "is_closed": .bool(level == .ok), "lines": .array(lines.map(\.json)),
            ]
        }
        let rows = spools["data"]?.elements ?? []
        return .page(
            "health",
            [
                "as_of": .string(result.at.rfc3339), "groups": .array(groups), "rollups": rollups,
                "waits": .array((rollups["waiting_for"]?.elements ?? []).map { ["wait": $0] }),
                "spools": .array(rows), "has_no_spools": .bool(rows.isEmpty),
                "next": request.next(of: spools, keeping: []),
            ])
    }
}

/// The doctor's checks of the database, for all readers: they run at most once in ``freshness``.
actor HealthExamination {
    /// How bad a line is, the worst first.
    enum Level: String, CaseIterable, Sendable {
        case failure, warning, unseen, ok
    }

    /// One line of the report.
    struct Line: Sendable {
        let check: String
        let level: Level
        /// The doctor's own sentence; `nil` where this program's role may not see what the check reads.
        var message: String?
        var remedy: String?

        /// Texts name a check with `_` for each space.
        static func text(of check: String) -> String { "check_\(check.replacing(" ", with: "_"))" }

        fileprivate var json: JSON {
            ["check": .string(Self.text(of: check)), "message": message.json, "remedy": remedy.json]
        }
    }

    /// All lines, and when they were found.
    struct Report: Sendable {
        let at: Timestamp
        let lines: [Line]
    }

    /// How long a report is shown before the checks run again.
    static let freshness = Duration.seconds(30)

    /// The checks that this program can do. The folder of the migrations belongs to `codexflow`.
    static let checks = DatabaseCheck.all.filter { $0.name != "schema" }

    private let pool: ConnectionPool
    private let now: @Sendable () -> Timestamp
    private var last: (begun: ContinuousClock.Instant, report: Task<Report, Never>)?

    init(pool: ConnectionPool, now: @escaping @Sendable () -> Timestamp) {
        (self.pool, self.now) = (pool, now)
    }

    /// The report of the last ``freshness``, or a new one.
    func result() async -> Report {
        if let last, ContinuousClock.now - last.begun < Self.freshness { return await last.report.value }
        let (pool, now) = (pool, now)
        let report = Task { Report(at: now(), lines: await Self.examine(pool, now)) }
        last = (ContinuousClock.now, report)
        return await report.value
    }

    /// One check after the other on one connection at a time, so that other requests go on.
    private static func examine(_ pool: ConnectionPool, _ now: @escaping @Sendable () -> Timestamp) async -> [Line] {
        let prefix = try? await pool.withConnection { try DatabaseRole.prefix($0) }
        let context = DatabaseCheck.Context(
            now: now, rolePrefix: prefix ?? "codexflow", migrationsPath: "", silence: .seconds(3_600))
        var lines: [Line] = []
        for check in checks {
            do {
                let findings = try await pool.withConnection { try check.run($0, context) }
                lines += findings.map { finding in
                    Line(
                        check: check.name, level: Level(rawValue: finding.level.rawValue) ?? .unseen,
                        message: finding.message, remedy: finding.remedy)
                }
            } catch {
                lines.append(line(check.name, error))
            }
        }
        return lines
    }

    /// The server's message may hold a value, so only its code is shown.
    private static func line(_ check: String, _ error: any Error) -> Line {
        let code = (error as? PostgresError)?.sqlState
        // The role lacks a right.
        if code == "42501" { return Line(check: check, level: .unseen) }
        let cause = code.map { "SQLSTATE \($0)" } ?? "\(type(of: error))"
        return Line(
            check: check, level: .failure, message: "cannot be judged: \(cause)",
            remedy: "See the other lines, then run 'codexflow doctor'.")
    }
}

extension DatabaseRole {
    /// What the names of the installation's roles begin with, by the name of our own; `nil` for a role of another name.
    fileprivate static func prefix(_ connection: Connection) throws -> String? {
        let user = try connection.query("SELECT current_user::text")[0].decode(0, as: String.self)
        let end = "_\(DatabaseRole.admin.rawValue)"
        return user.hasSuffix(end) ? String(user.dropLast(end.count)) : nil
    }
}
