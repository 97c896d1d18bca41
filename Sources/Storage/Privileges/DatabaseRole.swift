/// The PostgreSQL roles of an installation: one for each program, only as strong as its work.
package enum DatabaseRole: String, CaseIterable, Sendable {
    /// Owns the schema `metering`: `codexflow migrate` and `adopt`.
    case owner
    /// `webhook-api`
    case webhook
    /// `aggregation-worker`
    case worker
    /// `admin-api`. It stores calls that users report and replays quarantined events, so it may do what the webhook may.
    case admin
    /// The other commands of `codexflow`. It replays quarantined events, so it may do what the webhook may.
    case `operator`

    /// All but the owner, whose rights nobody takes away.
    package static let services = allCases.filter { $0 != .owner }

    /// Its name in a cluster, where one prefix stands for one installation.
    package func name(prefix: String) -> String { "\(prefix)_\(rawValue)" }

    /// The roles whose rights it has.
    var parts: [DatabaseRole] { [.admin, .operator].contains(self) ? [self, .webhook] : [self] }
}
