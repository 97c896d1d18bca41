import Foundation
import TestSupport
import Testing

/// The runnable blocks of all pages, each run by bash as it is written, beside a `make run` and as its administrator.
/// Only the compiler is left out: the programs are those of this test.
@Suite(.timeLimit(.minutes(30))) struct DocumentExampleTests {
    /// What one `curl` of an example was answered.
    private struct Answer {
        let status: Int
        let url: String
        let body: String
    }

    /// A running `make run`.
    private struct Run {
        let folder: URL
        let path: String
        let webhookPort: UInt16
        let adminPort: UInt16
        let workerPort: UInt16
    }

    /// The pages with runnable blocks, the README first.
    private static func pages() throws -> [MarkdownPage] {
        try MarkdownPage.all().filter { page in page.blocks.contains(where: \.isRunnable) }
    }

    /// An example that asks our services and is not marked would not be run.
    @Test func everyCallOfTheServicesIsRunnable() throws {
        let pages = try Self.pages()
        #expect(pages.count >= 6 && pages.contains { $0.path == "README.md" })
        for page in try MarkdownPage.all() {
            for block in page.blocks where block.language == "sh" && !block.isRunnable {
                let asks = block.text.contains(/curl [^\n]*(?:\$api|_PORT|\$ENDPOINT)/)
                #expect(!asks, "\(page.path): \(block.text)")
            }
            for block in page.blocks where block.isRunnable { #expect(block.language == "sh", "\(page.path)") }
        }
    }

    @Test func theExamplesWorkForTheAdministratorOfMakeRun() async throws {
        try await Self.withMakeRun { run in
            for page in try Self.pages() { try await Self.follow(page, run) }
            let services = [
                ("webhook-api", run.webhookPort), ("admin-api", run.adminPort), ("aggregation-worker", run.workerPort),
            ]
            for (service, port) in services {
                let metrics = try await Command.run("/usr/bin/curl", ["-sS", "http://127.0.0.1:\(port)/metrics"])
                try DocumentedMetric.compare(emitted: metrics, of: service)
            }
        }
    }

    private static func withMakeRun(_ body: (Run) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "codexflow-\(UUID().uuidString.prefix(8))")
        let built = folder.appending(path: ".build")
        try FileManager.default.createDirectory(at: built, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        for part in ["scripts", "migrations", "examples"] {
            try FileManager.default.copyItem(
                at: Checkout.root.appending(path: part), to: folder.appending(path: part))
        }
        try FileManager.default.createSymbolicLink(
            at: built.appending(path: "release"), withDestinationURL: Checkout.products)
        let compiler = try makeProgram(
            "swift", in: folder.appending(path: "compiler"),
            "case $* in *--show-bin-path) echo '\(Checkout.products.path())' ;; esac")
        let inherited = ProcessInfo.processInfo.environment
        let run = Run(
            folder: folder, path: inherited["PATH"] ?? "", webhookPort: try freePort(), adminPort: try freePort(),
            workerPort: try freePort())
        var environment = ["PATH": "\(compiler):\(run.path)", "HOME": folder.path()]
        for name in ["TEST_CLUSTERS"] { environment[name] = inherited[name] }
        environment["WEBHOOK_PORT"] = "\(run.webhookPort)"
        environment["ADMIN_PORT"] = "\(run.adminPort)"
        environment["WORKER_PORT"] = "\(run.workerPort)"
        let process = try ServiceProcess.start(
            path: "/bin/bash", arguments: ["-c", "cd '\(folder.path())' && exec scripts/run"], environment: environment)
        do {
            try await process.waitForOutput("Ctrl-C stops everything.", within: .seconds(120))
            try await body(run)
        } catch {
            process.terminate()
            try await process.waitForExit(within: .seconds(60))
            throw error
        }
        process.terminate()
        #expect(try await process.waitForExit(within: .seconds(60)) == 0)
    }

    /// Runs the blocks of one page in one shell, one after the other, as one does who copies them into a terminal.
    private static func follow(_ page: MarkdownPage, _ run: Run) async throws {
        let answers = run.folder.appending(path: "answers/\(page.path)")
        // Beside what is shown, each answer is kept with its status.
        let curl = try makeProgram(
            "curl", in: run.folder.appending(path: "curl"),
            """
            here=$(mktemp -d "$ANSWERS/$(date +%s%N)-XXXXXX")
            PATH=\(run.path) command curl --silent --show-error --output "$here/body" \\
                --write-out '%{http_code}\\n%{url_effective}\\n' "$@" >"$here/head" || exit $?
            cat "$here/body"
            """)
        try FileManager.default.createDirectory(at: answers, withIntermediateDirectories: true)
        let blocks = page.blocks.filter(\.isRunnable).map(\.text)
        let script = "set -eu -o pipefail\ncd '\(run.folder.path())'\n" + blocks.joined(separator: "\n")
        let output: String
        do {
            output = try await Command.run(
                "/bin/bash", ["-c", script],
                environment: ["PATH": "\(curl):\(run.path)", "ANSWERS": answers.path(), "HOME": run.folder.path()])
        } catch let failure as Command.Failure {
            Issue.record("\(page.path): \(failure)")
            return
        }
        let asked = try Self.answers(in: answers)
        let calls = blocks.map { $0.matches(of: /\bcurl\s/).count }.reduce(0, +)
        #expect(asked.count == calls, "\(page.path): \(output)")
        for answer in asked {
            #expect((200..<300).contains(answer.status), "\(page.path): \(answer.url)\n\(answer.body.prefix(400))")
            #expect(saysSomething(answer.body), "\(page.path): \(answer.url)\n\(answer.body.prefix(400))")
        }
        guard blocks.contains(where: { $0.contains("> logs.csv") }) else { return }
        let export = try String(contentsOf: run.folder.appending(path: "logs.csv"), encoding: .utf8)
        #expect(export.split(whereSeparator: \.isNewline).count >= 3, "\(page.path): \(export.prefix(400))")
    }

    private static func answers(in folder: URL) throws -> [Answer] {
        try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .sorted { $0.lastPathComponent < $1.lastPathComponent }.map { place in
                let head = try String(contentsOf: place.appending(path: "head"), encoding: .utf8).split(separator: "\n")
                let body = (try? Data(contentsOf: place.appending(path: "body"))) ?? Data()
                return Answer(
                    status: Int(head.first ?? "") ?? 0, url: String(head.last ?? ""),
                    body: String(decoding: body, as: UTF8.self))
            }
    }

    /// Whether it is a table with rows, or JSON whose list, if it has one, is not empty.
    private static func saysSomething(_ body: String) -> Bool {
        guard body.hasPrefix("{") || body.hasPrefix("[") else {
            return body.split(whereSeparator: \.isNewline).count >= 3
        }
        let value = try? JSONSerialization.jsonObject(with: Data(body.utf8))
        guard let object = value as? [String: Any], !object.isEmpty else { return false }
        let lists = ["data", "series"].compactMap { object[$0] as? [Any] }
        return lists.allSatisfy { !$0.isEmpty }
    }

    private static func makeProgram(_ name: String, in folder: URL, _ script: String) throws -> String {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appending(path: name)
        try Data("#!/bin/bash\n\(script)\n".utf8).write(to: file)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file.path())
        return folder.path()
    }

    /// A port that nobody listened at a moment ago.
    private static func freePort() throws -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bound in
                bind(descriptor, bound, length) == 0 ? getsockname(descriptor, bound, &length) : -1
            }
        }
        guard code == 0 else { throw POSIXError(.EADDRNOTAVAIL) }
        return UInt16(bigEndian: address.sin_port)
    }
}
