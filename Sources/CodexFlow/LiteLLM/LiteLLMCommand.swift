import ArgumentParser
import Bootstrap
import Domain
import Foundation
import HTTPSupport
import Storage

/// `codexflow litellm`
struct LiteLLMCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "litellm", abstract: "Sets up LiteLLM and sees whether its calls arrive.",
        subcommands: [Check.self, Config.self, ReconcileCommand.self])

    /// `codexflow litellm check`
    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Asks the proxy at LITELLM_PROXY_URL, and follows one call of a customer to its row.",
            discussion: "Exit code 1 when something is wrong. The call costs what --model costs; mock costs nothing.")

        @Flag(help: "Read a customer's key from the first line of standard input, and make a call with it.")
        var keyStdin = false
        @Option(help: "The model of that call.") var model = "mock"

        func run() async throws {
            let settings = try await Operation.explainingFailure { DoctorSettings(reading: try SettingsReader.load()) }
            guard let url = settings.proxy else {
                throw ValidationError("Set LITELLM_PROXY_URL to the http or https address where LiteLLM listens.")
            }
            let key = keyStdin ? readLine(strippingNewline: true) : nil
            let model = model
            var findings = try await HTTPChecks(now: { .now }).proxy(url) + ConfigurationCheck.masterKey(settings)
            if !findings.contains(where: { $0.level == .failure }) {
                let checks = LiteLLMChecks(url: url)
                findings.append(await checks.module())
                if let key {
                    findings += try await Operation.withPool { _, pool in
                        await checks.call(key: key, model: model, pool: pool)
                    }
                } else {
                    findings.append(.ok("call", "not tried: give a customer's key with --key-stdin"))
                }
            }
            let report = Report(findings)
            Terminal.print(own: report.text(colored: isatty(STDOUT_FILENO) == 1))
            if report.level == .failure { throw ExitCode(1) }
        }
    }

    /// `codexflow litellm config`
    struct Config: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Prints LiteLLM's settings for this installation, without secrets.")

        func run() async throws {
            let settings = try await Operation.explainingFailure { DoctorSettings(reading: try SettingsReader.load()) }
            for finding in ConfigurationCheck.masterKey(settings) {
                Terminal.complain("codexflow: \(finding.message). \(finding.remedy ?? "")")
            }
            let server = settings.webhook.server
            let host = ["0.0.0.0", "::"].contains(server.host) ? "webhook-api" : server.host
            let scheme = server.tls == nil ? "http" : "https"
            Terminal.print(
                own: """
                    # config.yaml, with integrations/litellm/codexflow.py beside it,
                    # for LiteLLM \(LiteLLMVersion.oldest) or newer
                    litellm_settings:
                      callbacks: ["codexflow.callback"]
                      global_disable_no_log_param: true
                    general_settings:
                      custom_auth: codexflow.authenticate
                      master_key: os.environ/LITELLM_MASTER_KEY

                    # LiteLLM's environment
                    CODEXFLOW_URL=\(scheme)://\(host.contains(":") ? "[\(host)]" : host):\(server.port)
                    CODEXFLOW_SPOOL=/var/lib/codexflow
                    LITELLM_WEBHOOK_KEY=(the value that webhook-api has)
                    LITELLM_MASTER_KEY=(a secret of its own: sk- and the output of: openssl rand -hex 32)
                    """)
        }
    }
}
