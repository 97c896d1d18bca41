import ArgumentParser
import AsyncHTTPClient
import Bootstrap
import Domain
import Foundation
import HTTPSupport
import NIOCore
import NIOHTTP1
import Postgres
import Storage

/// `codexflow litellm`
struct LiteLLMCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "litellm", abstract: "Prints LiteLLM's settings, and checks that its calls arrive.",
        subcommands: [Check.self, Config.self, ReconcileCommand.self])

    /// `codexflow litellm check`
    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Checks the proxy at LITELLM_PROXY_URL, and follows one call of a customer to its log.",
            discussion: "The exit code is 1 if a check fails. The call costs what --model costs; mock costs nothing.")

        @Flag(help: "Make a call with the customer's key that is the first line of standard input.")
        var keyStdin = false
        @Option(help: "The model of that call.") var model = "mock"

        func run() async throws {
            let settings = try await OperatorContext.explainingFailure {
                DoctorSettings(reading: try SettingsReader.load())
            }
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
                    findings += try await OperatorContext.withPool { _, pool in
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
            let settings = try await OperatorContext.explainingFailure {
                DoctorSettings(reading: try SettingsReader.load())
            }
            for finding in ConfigurationCheck.masterKey(settings) {
                Terminal.complain("codexflow: \(finding.message). \(finding.remedy ?? "")")
            }
            let server = settings.webhook.server
            let host = ["0.0.0.0", "::"].contains(server.host) ? "webhook-api" : server.host
            let scheme = server.tls == nil ? "http" : "https"
            Terminal.print(
                own: """
                    # config.yaml, beside codexflow.py and codexflow_litellm of integrations/litellm,
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

/// A release of LiteLLM, as its answers name it.
struct LiteLLMVersion: Comparable, CustomStringConvertible {
    /// The first release that neither loses nor multiplies events by itself.
    static let oldest = LiteLLMVersion(1, 109, 1)
    /// The releases that the tests of the module run on.
    static let tested = [oldest, LiteLLMVersion(1, 110, 2)]
    /// Releases that contain foreign code.
    static let compromised = [LiteLLMVersion(1, 107, 0)]

    private let numbers: [Int]

    private init(_ numbers: Int...) { self.numbers = numbers }

    /// The release that `text` names, such as `1.109.1` or `v1.109.1-stable`.
    init?(_ text: some StringProtocol) {
        guard let match = String(text).firstMatch(of: /^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?!\d)/),
            let major = Int(match.1), let minor = Int(match.2), let patch = Int(match.3)
        else { return nil }
        numbers = [major, minor, patch]
    }

    var description: String { numbers.map(String.init).joined(separator: ".") }

    static func < (left: LiteLLMVersion, right: LiteLLMVersion) -> Bool {
        left.numbers.lexicographicallyPrecedes(right.numbers)
    }

    /// What is wrong with the release; `nil` for one to use.
    var finding: Finding? {
        let newer =
            "Use \(Self.tested.map(\.description).joined(separator: " or ")), the versions that the tests run on."
        if Self.compromised.contains(self) {
            return .failure(
                "proxy",
                "LiteLLM \(self) was compromised: every key and secret that it has seen may be known to others",
                "Stop it. \(newer) Replace its provider keys, its master key, the webhook key and the customers' keys.")
        }
        guard self >= Self.oldest else {
            return .warning(
                "proxy", "LiteLLM \(self) is older than \(Self.oldest): it loses or multiplies events", newer)
        }
        return nil
    }
}

/// Checks from outside whether our module works in the proxy.
struct LiteLLMChecks: Sendable {
    /// Where the proxy listens.
    let url: URL

    /// Checks that our module, and not LiteLLM, refuses a key that no user has.
    func module() async -> Finding {
        let subject = "module"
        switch await ask("v1/models", key: "cf_" + UUID().uuidString, body: nil) {
        case nil:
            return .failure(subject, "the proxy gives no answer", "See LiteLLM's log.")
        case (401, let body)? where body.contains("This API key is not known"):
            return .ok(subject, "refuses a key that no user has")
        case (503, _)?:
            return .failure(
                subject, "cannot ask webhook-api about keys",
                "Correct CODEXFLOW_URL and LITELLM_WEBHOOK_KEY in LiteLLM's environment.")
        case (200, _)?:
            return .failure(
                subject, "is missing: the proxy accepts any key",
                "Set custom_auth and master_key as 'codexflow litellm config' prints them.")
        default:
            return .failure(
                subject, "is missing: LiteLLM checks keys by itself",
                "Set custom_auth as 'codexflow litellm config' prints it, with codexflow.py beside config.yaml.")
        }
    }

    /// Makes one call with a customer's key, and waits for its log.
    func call(key: String, model: String, pool: ConnectionPool) async -> [Finding] {
        let mark = "codexflow-check-\(UUID().uuidString)"
        let began = Timestamp.now
        let question: [String: any Sendable] = [
            "model": model, "user": mark, "max_tokens": 5, "messages": [["role": "user", "content": "Hello!"]],
        ]
        let body = (try? JSONSerialization.data(withJSONObject: question)) ?? Data()
        guard let (status, answer) = await ask("v1/chat/completions", key: key, body: body) else {
            return [.failure("call", "the proxy gives no answer", "See LiteLLM's log.")]
        }
        guard status == 200 else {
            let words = try? JSONDecoder().decode(Refusal.self, from: Data(answer.utf8)).error.message
            return [
                .failure(
                    "call", "is answered \(status): \((words ?? "without a reason").scrubbed(of: [key]).prefix(200))",
                    "Correct that, or name a model that LiteLLM has with --model.")
            ]
        }
        let answered = ContinuousClock.now
        while ContinuousClock.now - answered < .seconds(20) {
            if let user = try? await rowOwner(of: mark, since: began, pool) {
                let seconds = (ContinuousClock.now - answered) / .seconds(1)
                let age = String(format: "%.1f", seconds)
                return [.ok("call", "is a log of user \(user), \(age) s after its answer")]
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
        return [
            .failure(
                "call", "was answered, and is no log 20 s later",
                "See 'events are not delivered' in LiteLLM's log, and 'codexflow quarantine list'.")
        ]
    }

    private struct Refusal: Decodable {
        struct Words: Decodable {
            let message: String
        }

        let error: Words
    }

    private func rowOwner(of mark: String, since began: Timestamp, _ pool: ConnectionPool) async throws -> Int64? {
        try await pool.withConnection { try CallTrace.user(ofEndUser: mark, since: began, $0) }
    }

    private func ask(_ path: String, key: String, body: Data?) async -> (Int, String)? {
        var request = HTTPClientRequest(url: url.appending(path: path).absoluteString)
        request.headers.add(name: "Authorization", value: "Bearer \(key)")
        if let body {
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(bytes: body))
        }
        guard let response = try? await HTTPClient.shared.execute(request, timeout: .seconds(60)),
            let answer = try? await response.body.collect(upTo: 1 << 20)
        else { return nil }
        return (Int(response.status.code), String(buffer: answer))
    }
}
