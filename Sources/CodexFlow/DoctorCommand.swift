import ArgumentParser
import Bootstrap
import Domain
import Foundation
import HTTPSupport
import Storage

/// `codexflow doctor`
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract:
            "Looks at configuration, database, schema, rights, clocks, backlog and services, and changes nothing.",
        discussion: "Exit code 1 when there is a failure. Each warning and failure says what to do.")

    @Flag(help: "Print JSON.") var json = false
    @Flag(help: "Exit code 1 for warnings too.") var strict = false
    @Option(help: "A browser's cookie, name=value, that is followed to its user; others on this machine may see it.")
    var cookie: String?
    @Flag(help: "Read that cookie from standard input.") var cookieStdin = false

    func validate() throws {
        if cookie != nil, cookieStdin { throw ValidationError("Give --cookie or --cookie-stdin.") }
    }

    func run() async throws {
        let (reader, unreadable) = Self.reader()
        let settings = DoctorSettings(reading: reader)
        var doctor = Doctor(settings: settings, now: { .now })
        if let text = cookieStdin ? readLine() ?? "" : cookie {
            doctor.cookie = (Secret(text), LaravelSessions(reading: reader))
        }
        let findings = await doctor.examine()
        let report = Report(unreadable + ConfigurationCheck.findings(reader) + findings)
        if json {
            Terminal.print(json: try report.json())
        } else {
            Terminal.print(own: report.text(colored: isatty(STDOUT_FILENO) == 1))
        }
        if report.level >= (strict ? .warning : .failure) { throw ExitCode(1) }
    }

    /// The settings; where `.env` cannot be read, those of the environment alone, and why.
    private static func reader() -> (SettingsReader, [Finding]) {
        do {
            return (try SettingsReader.load(), [])
        } catch {
            return (
                SettingsReader(environment: ProcessInfo.processInfo.environment),
                error.problems.map { .failure("configuration", $0, "Correct .env, or CODEXFLOW_ENV_FILE.") }
            )
        }
    }
}
