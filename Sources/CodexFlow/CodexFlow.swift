import ArgumentParser
import Bootstrap

/// The operator's command line.
@main
struct CodexFlow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "codexflow",
        abstract: "Operates CodexFlow's usage backend.",
        discussion: "Reads the same environment variables, or .env, as the services.",
        subcommands: [
            MigrateCommand.self, SchemaCommand.self, AdoptCommand.self, GrantsCommand.self, DoctorCommand.self,
            UserCommand.self, QuarantineCommand.self, EventCommand.self, LiteLLMCommand.self,
        ])
}

/// Writes one line as Swift's `print` does, and hides that one from this target: every text from data is made visible.
func print(_ items: Any..., separator: String = " ") {
    Terminal.print(items.map { "\($0)" }.joined(separator: separator))
}
