import ArgumentParser

/// The worker that keeps the rollups of usage.
@main
struct AggregationWorker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "aggregation-worker",
        abstract: "Keeps the rollups that the dashboards read.",
        discussion: """
            Reads the same environment variables, or .env, as the other services. Several at once are safe: one \
            works, and a killed one leaves nothing half done. Answers are exact whether it ran a second or a day ago. \
            It makes them fast.
            """,
        subcommands: [
            OnceCommand.self, RunCommand.self, StatusCommand.self, VerifyCommand.self, RebuildCommand.self,
            PruneCommand.self, SettingsCommand.self,
        ])
}
