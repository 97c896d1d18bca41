import Analytics
import Domain
import HTTPSupport
import Storage

/// The operator's page of the audit log.
struct AuditPage: Sendable {
    let database: Database

    private static let filters = ["actor_id", "subject", "subject_id", "from", "to"]
    private static let subjects = [
        "user", "user_limits", "plan_limits", "limit_request", "model", "free_model", "quarantine",
    ]
    /// The kinds of subjects that have a page: its path before the subject's id.
    private static let places = [
        "user": "/operator/users/", "user_limits": "/operator/users/", "quarantine": "/operator/quarantine/",
    ]

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        let days = try await bounds(request)
        let list = try await request.json(
            "listAuditLog",
            request.query(["actor_id", "subject", "subject_id", "cursor"]) + days + [("limit", "50")])
        let entries = list["data"]?.elements ?? []
        let names = try await database.names(ofUsersIn: entries, "actor_id")
        return .page(
            "audit",
            [
                "entries": .array(entries.map { names.adding(to: $0).merging(Self.marks(of: $0)) }),
                "has_none": .bool(entries.isEmpty), "next": request.next(of: list, keeping: Self.filters),
                "filter": .object(Self.filters.map { .init($0, request.query($0).json) }),
                "is_filtered": .bool(!request.query(Self.filters).isEmpty),
                "subjects": FormOption.list(Self.subjects, request.query("subject"), kind: "subject"),
            ])
    }

    private static func marks(of entry: JSON) -> JSON {
        let (subject, id) = (entry["subject"]?.text ?? "", entry["subject_id"]?.text ?? "")
        return [
            "is_command_line": .bool(entry["actor_id"] == 0),
            "place": places[subject].map { "\($0)\(id.percentEncoded)" }.json,
            "has_states": .bool(entry["before"] != .null || entry["after"] != .null),
        ]
    }

    /// The days from and to of the reader's zone, both included, as the operation's moments.
    private func bounds(_ request: PageRequest) async throws -> [(String, String)] {
        let given = ["from", "to"].compactMap { name in request.query(name).map { (name, $0) } }
        guard !given.isEmpty else { return [] }
        return try await database.read { connection in
            let zone = try TimeZoneName.require(request.reader.zoneName, connection)
            return try given.map { name, text in
                guard let day = CalendarDate(text) else {
                    throw ValidationError(name, "The \(name) field must be a date as in 2026-11-23.")
                }
                let first = CalendarDate(daysSince1970: day.daysSince1970 + (name == "to" ? 1 : 0))
                return (name, try zone.start(of: "\(first)", connection).rfc3339)
            }
        }
    }
}
