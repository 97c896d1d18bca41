import Bootstrap
import Storage

/// The passwords that the roles of `codexflow grants` get, a variable each: `WEBHOOK_DB_PASSWORD` and so on.
struct RolePasswords: Sendable {
    private static let shortest = 16

    private let secrets: [DatabaseRole: Secret]

    /// Those that are set. One that is short, or serves twice, is a problem of `settings`: each role has a secret of
    /// its own.
    init(reading settings: SettingsReader) {
        var names: [Secret: String] = [:]
        if let owners = settings.secret("DB_PASSWORD") { names[owners] = "DB_PASSWORD" }
        var secrets: [DatabaseRole: Secret] = [:]
        for role in DatabaseRole.allCases {
            let name = Self.variable(of: role)
            guard let secret = settings.secret(name) else { continue }
            let length = secret.reveal().count
            if length < Self.shortest {
                settings.reject(name, "has \(length) characters; at least \(Self.shortest) are needed")
            } else if let other = names[secret] {
                settings.reject(name, "is the same as \(other); make each by: openssl rand -hex 32")
            }
            names[secret] = name
            secrets[role] = secret
        }
        self.secrets = secrets
    }

    static func variable(of role: DatabaseRole) -> String { "\(role.rawValue.uppercased())_DB_PASSWORD" }

    /// For the one place that hands them to PostgreSQL.
    func reveal() -> [DatabaseRole: String] { secrets.mapValues { $0.reveal() } }
}
