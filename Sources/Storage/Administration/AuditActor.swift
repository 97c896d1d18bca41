/// The administrator who changes something, and from where.
package struct AuditActor: Sendable, Hashable {
    /// Whoever may run `codexflow`; no user of Laravel's has the id 0.
    package static let commandLine = AuditActor(userID: 0, address: "codexflow")

    /// Laravel's user id.
    package var userID: Int64
    /// The client's address as the service saw it, such as `203.0.113.9`.
    package var address: String

    package init(userID: Int64, address: String) {
        self.userID = userID
        self.address = address
    }
}
