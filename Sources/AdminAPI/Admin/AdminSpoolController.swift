import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Storage

/// `/api/v1/admin/ledger/spools`: which events the proxies sent and nobody stored.
struct AdminSpoolController: Sendable {
    let database: Database

    var endpoints: [Endpoint] {
        [
            Endpoint(
                .get, "/api/v1/admin/ledger/spools", .admin,
                "The spools of LiteLLM's proxies, the numbers of events that are missing, and since when.",
                [.query("missing", .flag, "Only spools that lack something.")] + Parameter.page,
                answers: Schema.page(of: Schema.spool), list)
        ]
    }

    @Sendable private func list(_ call: Call) async throws -> Answer {
        let cursor = try call.cursor(count: 1)?[0]
        guard cursor == nil || cursor.flatMap(UUID.init(uuidString:)) != nil else { throw Cursor.invalid }
        let spools = try await database.read {
            try SpoolStatus.list(onlyMissing: call.flag("missing"), after: cursor, limit: call.limit + 1, $0)
        }
        let page = spools.prefix(call.limit)
        return .page(
            page.map { $0.json(at: call.now) }, next: spools.count > page.count ? page.last.map { [$0.spool] } : nil)
    }
}

extension SpoolStatus {
    fileprivate func json(at now: Timestamp) -> JSON {
        [
            "spool": .string(spool), "highest": .integer(highest), "seen_at": .string(seenAt.rfc3339),
            "lost": .integer(lost), "missing": .integer(missingEvents),
            "missing_since": missingSince.json,
            "missing_seconds": missingSince.map {
                .integer(max(0, (now.microseconds - $0.microseconds) / 1_000_000))
            } ?? .null,
            "missing_ranges": .integer(rangeCount),
            "ranges": .array(
                ranges.map { ["first": .integer($0.lowerBound), "last": .integer($0.upperBound)] }),
        ]
    }
}

extension Schema {
    fileprivate static let spool = object([
        "spool": string, "highest": integer, "seen_at": time, "lost": integer, "missing": integer,
        "missing_since": optional(time), "missing_seconds": optional(integer), "missing_ranges": integer,
        "ranges": list(object(["first": integer, "last": integer])),
    ])
}
