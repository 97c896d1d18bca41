import ArgumentParser
import Bootstrap
import Domain
import Foundation
import HTTPSupport
import Postgres
import Storage

/// `codexflow doctor`
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Checks configuration, database, schema, rights, clocks, backlog and services. Changes nothing.",
        discussion: "Each warning and failure comes with a remedy. The exit code is 1 if there is a failure.")

    @Flag(help: "Print JSON.") var json = false
    @Flag(help: "Exit code 1 for warnings too.") var strict = false
    @Option(help: "Follow this browser cookie, name=value, to its user. Other users of this machine may see it.")
    var cookie: String?
    @Flag(help: "Read the cookie from standard input.") var cookieStdin = false

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

    /// The settings. If `.env` cannot be read, those of the environment and the reason.
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

/// Everything that the doctor checks.
struct DoctorSettings {
    let webhook: WebhookSettings
    let context: OperatorContext
    /// Where LiteLLM listens.
    let proxy: URL?
    /// How long no event may arrive.
    let silence: Duration
    /// The database as the operator connects.
    let database: ConnectionConfiguration
    /// The database as admin-api connects.
    let adminDatabase: ConnectionConfiguration
    let webhookKey: Secret?
    let previousKey: Secret?
    /// LiteLLM's master key, if it is known here.
    let masterKey: Secret?

    static let table: SettingsTable = [
        Setting(
            "METERING_SILENCE", .duration(.seconds(60) ... .seconds(2_592_000)), default: "1h",
            "How long no event may arrive before the doctor warns."),
        Setting(
            "LITELLM_PROXY_URL", .secret,
            "Where LiteLLM listens; the doctor checks its answer and its clock, unless this is empty."),
        Setting(
            "LITELLM_MASTER_KEY", .secret,
            "The key that administers LiteLLM; the doctor checks that it is a secret of its own."),
        adminURL,
    ]

    private static let adminURL = Setting(
        "ADMIN_DATABASE_URL", .secret, "The database as admin-api connects, for 'doctor --cookie'.")

    /// Reads ``table``, and the settings of webhook-api.
    init(reading settings: SettingsReader) {
        webhook = WebhookSettings(reading: settings)
        context = OperatorContext(reading: settings)
        silence = settings.duration(Self.table["METERING_SILENCE"])
        var database = DatabaseSettings(
            reading: settings, applicationName: "codexflow", ownURL: OperatorContext.ownURL
        ).connection
        database.statementTimeout = .seconds(5)
        database.lockTimeout = .seconds(2)
        self.database = database
        var admin = DatabaseSettings(
            reading: settings, applicationName: "codexflow", ownURL: Self.adminURL.name
        ).connection
        admin.statementTimeout = .seconds(5)
        admin.lockTimeout = .seconds(2)
        adminDatabase = admin
        webhookKey = settings.secret(WebhookKeys.table["LITELLM_WEBHOOK_KEY"])
        previousKey = settings.secret(WebhookKeys.table["LITELLM_WEBHOOK_KEY_PREVIOUS"])
        masterKey = settings.secret(Self.table["LITELLM_MASTER_KEY"])
        proxy = settings.secret(Self.table["LITELLM_PROXY_URL"]).flatMap { text in
            let url = URL(string: text.reveal())
            guard let url, ["http", "https"].contains(url.scheme), url.host() != nil, url.user() == nil else {
                settings.reject("LITELLM_PROXY_URL", "is not an http or https URL without a password")
                return nil
            }
            return url
        }
    }
}

/// What the doctor found, for people and for programs.
struct Report: Encodable {
    /// The worst level of all.
    let level: Finding.Level
    let findings: [Finding]

    init(_ findings: [Finding]) {
        self.findings = findings
        level = findings.map(\.level).max() ?? .ok
    }

    /// One object: `level`, and `findings` with `level`, `subject`, `message` and `remedy`.
    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    /// A line for each finding, its remedy indented below, then the counts.
    func text(colored: Bool) -> String {
        let width = findings.map(\.subject.count).max() ?? 0
        let lines = findings.flatMap { finding in
            let level = finding.level.rawValue.padded(to: 8)
            let line =
                "\(colored ? finding.level.colored(level) : level) \(finding.subject.padded(to: width))  "
                + finding.message.visible
            return [line] + (finding.remedy.map { [String(repeating: " ", count: width + 11) + $0.visible] } ?? [])
        }
        let (failures, warnings) = (count(.failure), count(.warning))
        let sum = [(failures, "failure"), (warnings, "warning")].map { "\($0) \($1)\($0 == 1 ? "" : "s")" }
        return (lines + [sum.joined(separator: ", ")]).joined(separator: "\n")
    }

    private func count(_ level: Finding.Level) -> Int { findings.count { $0.level == level } }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(width - count, 0))
    }
}

extension Finding.Level {
    /// `text` in green, yellow or red.
    fileprivate func colored(_ text: String) -> String {
        let color =
            switch self {
            case .ok: 32
            case .warning: 33
            case .failure: 31
            }
        return "\u{1B}[\(color)m\(text)\u{1B}[0m"
    }
}
