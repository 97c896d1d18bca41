import Bootstrap
import Domain
import Foundation
import HTTPSupport
import Postgres
import Storage
import TestSupport
import Testing

@testable import CodexFlow

/// `codexflow doctor` outside the database: settings, the proxy, our own ports, and the report.
@Suite(.timeLimit(.minutes(30))) struct DoctorTests {
    /// Our clock stands still, so that another's distance is what a test says.
    private let http = HTTPChecks(now: { UsageEvent.sampleTime })

    private func settings(_ environment: [String: String]) -> (SettingsReader, DoctorSettings) {
        let reader = SettingsReader(environment: environment)
        return (reader, DoctorSettings(reading: reader))
    }

    private func doctor(_ environment: [String: String], _ arguments: [String] = []) async throws -> (
        exitCode: Int32, output: String
    ) {
        let process = try ServiceProcess.start(
            product: "codexflow", arguments: ["doctor"] + arguments, environment: environment)
        let exitCode = try await process.waitForExit(within: .seconds(60))
        return (exitCode, process.output)
    }

    @Test(
        arguments: [
            (String(repeating: "ab12", count: 16), "repeats a pattern"), ("0101101011010101010010101101010101", "few"),
            ("correct-horse-battery-staple-and-more-words", "words"),
            ("4f1c9e07b2a8d6350f7e41c98b2d60a3", nil), ("Zk3v-9QpLx_72TbnWq8sYcH5dRmE4uJaG", nil),
            ("550e8400-e29b-41d4-a716-446655440000", nil),
        ] as [(String, String?)])
    func aKeyThatAGuesserTriesEarlyIsWeak(key: String, words: String?) {
        let weakness = ConfigurationCheck.weakness(of: key)
        #expect(words.map { weakness?.contains($0) == true } ?? (weakness == nil), "\(weakness ?? "none")")
    }

    @Test func keysThatAreKnownElsewhereAreNamed() {
        let key = "4f1c9e07b2a8d6350f7e41c98b2d60a3"
        let shared = settings(["LITELLM_WEBHOOK_KEY": key, "DB_PASSWORD": key]).1
        #expect(ConfigurationCheck.keyStrength(shared).map(\.level) == [.failure])
        let twice = settings(["LITELLM_WEBHOOK_KEY": key, "LITELLM_WEBHOOK_KEY_PREVIOUS": key]).1
        #expect(ConfigurationCheck.keyStrength(twice).map(\.level) == [.warning])
        #expect(ConfigurationCheck.keyStrength(settings(["LITELLM_WEBHOOK_KEY": key]).1).map(\.level) == [.ok])
    }

    @Test(
        arguments: [
            ("1.109.1", nil), ("1.110.2", nil), ("v1.109.1-stable", nil), ("2.0.0", nil), ("1.1090.0", nil),
            ("dev", nil),
            ("1.107.0", .failure), ("v1.107.0-nightly", .failure), ("1.109.0", .warning), ("1.74.9", .warning),
            ("1.107.1", .warning), ("0.110.2", .warning),
        ] as [(String, Finding.Level?)])
    func aLiteLLMThatWasCompromisedOrLosesEventsIsNamed(version: String, level: Finding.Level?) async throws {
        let server = try CannedServer(
            CannedServer.http("200 OK", "\"I'm alive!\"", headers: ["x-litellm-version: \(version)"]))
        let url = try #require(URL(string: "http://127.0.0.1:\(server.port)"))
        let found = try await http.proxy(url)
        #expect(found.map(\.level) == [.ok] + [level].compactMap { $0 }, "\(found)")
        #expect(found.last?.message.contains(version.trimmingPrefix("v").prefix(6)) == true)
        server.stop()
    }

    @Test func aMasterKeyThatCanBeMadeFromTheWebhookKeyIsNamed() {
        let webhook = "4f1c9e07b2a8d6350f7e41c98b2d60a3"
        let own = "sk-0b7d2f95c1e84a36d90f5b8e72c4a613"
        let judged: [(String, Finding.Level?)] = [
            (own, nil), (webhook, .failure), ("sk-\(webhook)", .failure), ("sk-\(webhook)-admin", .failure),
            ("sk-4f1c9e07b2a8d635", .failure), ("sk-short", .warning),
            ("sk-" + String(repeating: "ab12", count: 16), .warning),
        ]
        for (master, level) in judged {
            let current = settings(["LITELLM_WEBHOOK_KEY": webhook, "LITELLM_MASTER_KEY": master]).1
            #expect(ConfigurationCheck.masterKey(current).first?.level == level, "\(master)")
            let former = settings([
                "LITELLM_WEBHOOK_KEY": String(webhook.reversed()), "LITELLM_WEBHOOK_KEY_PREVIOUS": webhook,
                "LITELLM_MASTER_KEY": master,
            ]).1
            #expect(ConfigurationCheck.masterKey(former).first?.level == level, "\(master)")
            #expect(ConfigurationCheck.keyStrength(former).allSatisfy { !$0.message.contains(webhook) })
        }
    }

    @Test func everySettingHasItsSourceAndEveryProblemIsReported() {
        let (reader, _) = settings([
            "WEBHOOK_PORT": "80x", "DB_ROLE_PREFIX": "a;b", "LITELLM_PROXY_URL": "http://me:hush@proxy:4000",
            "DB_PASSWORD": "hush", "LITELLM_WEBHOOK_KEY": "4f1c9e07b2a8d6350f7e41c98b2d60a3",
        ])
        let findings = ConfigurationCheck.findings(reader)
        let problems = findings.filter { $0.level == .failure }.map { $0.message.prefix { $0 != ":" } }
        #expect(Set(problems) == ["WEBHOOK_PORT", "DB_ROLE_PREFIX", "LITELLM_PROXY_URL"])
        #expect(findings.contains { $0.message == "DB_PASSWORD=*** (environment)" })
        #expect(findings.contains { $0.message == "WEBHOOK_HOST=127.0.0.1 (default)" })
        #expect(!findings.contains { $0.message.contains("hush") || $0.message.contains("4f1c") })
    }

    @Test func theProxyIsLiteLLMWithARightClockOrItIsNot() async throws {
        let date = DateFormatter()
        date.locale = Locale(identifier: "en_US_POSIX")
        date.timeZone = .gmt
        date.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        let present = Date(timeIntervalSince1970: Double(UsageEvent.sampleTime.microseconds) / 1e6)
        let header = { (offset: TimeInterval) in "Date: " + date.string(from: present.addingTimeInterval(offset)) }
        let answers: [(String?, [Finding.Level], String)] = [
            (
                CannedServer.http("200 OK", "\"I'm alive!\"", headers: [header(0), "x-litellm-version: 1.109.1"]),
                [.ok, .ok], "version 1.109.1"
            ),
            (
                CannedServer.http("200 OK", "\"I'm alive!\"", headers: [header(-30)]), [.ok, .warning],
                "LiteLLM answers"
            ),
            (
                CannedServer.http("200 OK", "\"I'm alive!\"", headers: [header(900)]), [.ok, .failure],
                "LiteLLM answers"
            ),
            (CannedServer.http("200 OK", "<html>"), [.warning], "not as LiteLLM"),
            (CannedServer.http("502 Bad Gateway", ""), [.failure], "answers 502"),
            ("SSH-2.0-OpenSSH\r\n", [.failure], "no HTTP answer"),
        ]
        for (answer, levels, words) in answers {
            let server = try CannedServer(answer)
            let found = try await http.proxy(URL(string: "http://127.0.0.1:\(server.port)/"))
            server.stop()
            #expect(found.map(\.level) == levels, "\(found)")
            #expect(found.first?.message.contains(words) == true)
        }
        let closed = try CannedServer(nil)
        closed.stop()
        #expect(try await http.proxy(URL(string: "http://127.0.0.1:1")).map(\.level) == [.failure])
        #expect(try await http.proxy(nil).map(\.level) == [.ok])
    }

    @Test func anotherProgramAtOurPortIsNotTakenForOurs() async throws {
        let answers: [(String?, Finding.Level, String)] = [
            (CannedServer.http("200 OK", #"{"status":"ok"}"#), .ok, "ready at"),
            (CannedServer.http("503 Service Unavailable", #"{"status":"unavailable"}"#), .failure, "not ready"),
            (CannedServer.http("200 OK", "<html>"), .failure, "something else"),
            (CannedServer.http("404 Not Found", ""), .failure, "something else"),
            (nil, .failure, "something else"),
        ]
        for (answer, level, words) in answers {
            let server = try CannedServer(answer)
            let found = try await http.webhook(settings(["WEBHOOK_PORT": "\(server.port)"]).1.webhook.server)
            server.stop()
            #expect(found.map(\.level) == [level], "\(found)")
            #expect(found.first?.message.contains(words) == true)
        }
        let nobody = try await http.webhook(settings(["WEBHOOK_PORT": "1"]).1.webhook.server)
        #expect(nobody.map(\.level) == [.warning])
    }

    @Test func aCheckThatFailsOrHangsHidesNoOther() async {
        let findings = await Doctor.run(
            [
                .init(name: "hangs") {
                    await withCheckedContinuation { (_: CheckedContinuation<Void, Never>) in }
                    return []
                },
                .init(name: "fails") { throw CancellationError() },
                .init(name: "works") { [.ok("works", "well")] },
            ], deadline: .seconds(3))
        #expect(findings.map(\.subject) == ["hangs", "fails", "works"])
        #expect(findings.map(\.level) == [.failure, .failure, .ok])
    }

    @Test func aDatabaseThatIsDownIsReportedOnceAndTheRestIsChecked() async throws {
        let (exitCode, output) = try await doctor([
            "DATABASE_URL": "postgresql://nobody:hush@127.0.0.1:1/nothing", "LITELLM_WEBHOOK_KEY": "short",
        ])
        #expect(exitCode == 1)
        let lines = output.split(separator: "\n")
        #expect(lines.filter { $0.hasPrefix("failure  database") }.count == 1)
        #expect(lines.contains { $0.hasPrefix("failure  configuration") && $0.contains("LITELLM_WEBHOOK_KEY") })
        #expect(lines.contains { $0.hasPrefix("warning  webhook-api") || $0.hasPrefix("failure  webhook-api") })
        #expect(!lines.contains { $0.contains("quarantine") })
        #expect(lines.last == "2 failures, 1 warning")
        #expect(!output.contains("hush") && !output.contains("short"))
    }

    @Test func theExitCodeFollowsTheWorstAndStrictTakesWarningsToo() async throws {
        try await withTestDatabase { database in
            try await database.pool(as: .owner).withConnection { try EventPartitions.ensure($0, now: .now) }
            let environment = [
                "DATABASE_URL": database.url(as: .operator), "MIGRATIONS_PATH": Checkout.migrations,
                "LITELLM_WEBHOOK_KEY": "4f1c9e07b2a8d6350f7e41c98b2d60a3", "WEBHOOK_PORT": "1",
            ]
            let (exitCode, output) = try await doctor(environment, ["--json"])
            #expect(exitCode == 0, "\(output)")
            let report = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
            #expect(report?["level"] as? String == "warning")
            let findings = try #require(report?["findings"] as? [[String: String]])
            #expect(findings.allSatisfy { Set($0.keys).isSubset(of: ["level", "subject", "message", "remedy"]) })
            let subjects = Set(findings.compactMap { $0["subject"] })
            #expect(subjects.isSuperset(of: DatabaseCheck.all.map(\.name)))
            #expect(try await doctor(environment, ["--strict"]).exitCode == 1)
            try await database.execute("UPDATE metering.installation SET users_table = 1")
            #expect(try await doctor(environment).exitCode == 1)
        }
    }
}
