import ArgumentParser
import Bootstrap
import HTTPSupport

/// The operator's command line.
@main
struct CodexFlow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "codexflow",
        abstract: "Operates CodexFlow: schema, roles, users, quarantine, and checks of the installation.",
        discussion: "Settings come from the environment, then from the file .env.",
        subcommands: [
            MigrateCommand.self, SchemaCommand.self, AdoptCommand.self, GrantsCommand.self, DoctorCommand.self,
            UserCommand.self, QuarantineCommand.self, EventCommand.self, LiteLLMCommand.self, SettingsCommand.self,
        ])

    /// Every setting of codexflow. `doctor` also reads those of the services that it checks.
    static let settings: SettingsTable =
        OperatorContext.table + DatabaseSettings.table(ownURL: OperatorContext.ownURL) + RolePasswords.table
        + DoctorSettings.table
        + ReconcileSettings.table + WebhookSettings.table + LaravelSessions.table
}

/// `codexflow settings`
struct SettingsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settings", abstract: "Prints the settings that this program reads, one JSON object a line.")

    func run() {
        Terminal.print(own: CodexFlow.settings.json)
    }
}

/// Writes one line like Swift's `print`, which it replaces in this target: control characters in data are made visible.
func print(_ items: Any..., separator: String = " ") {
    Terminal.print(items.map { "\($0)" }.joined(separator: separator))
}
