import ArgumentParser
import Storage

extension UserCommand {
    /// `codexflow user verify`
    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Says that a user's e-mail address is theirs, as the link in Laravel's mail does.",
            discussion: """
                An account that was made under ADMIN_REGISTRATION=verified has its plan's limits from then on. \
                The change is in the audit log.
                """)

        @Option(help: "The user's e-mail.") var email: String

        func run() async throws {
            let email = email
            let isNew = try await Operation.run { operation, connection in
                let user = try UserAccounts.requireID(email: email, connection)
                return try UserAdministration(by: .commandLine, at: operation.now).verify(user, connection)
            }
            print(isNew ? "verified; LiteLLM knows within seconds" : "was verified already")
        }
    }
}
