import ArgumentParser
import Bootstrap

/// `aggregation-worker settings`
struct SettingsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settings", abstract: "Prints the settings that this program reads, one JSON object a line.")

    func run() {
        Terminal.print(own: WorkerSettings.table.json)
    }
}
