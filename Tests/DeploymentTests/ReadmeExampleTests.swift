import Foundation
import TestSupport
import Testing

/// The examples of the READMEs, each run as it is written, by bash, beside a `make run` and as the administrator that
/// it makes. Only the compiler is left out: the programs are those of this test.
@Suite(.timeLimit(.minutes(15))) struct ReadmeExampleTests {
    private static let marker = "<!-- example: runs as written after `make run` -->\n```sh\n"

    /// The marked examples of a README, in their order.
    private static func examples(of name: String) throws -> [String] {
        let text = try String(contentsOf: Checkout.root.appending(path: name), encoding: .utf8)
        return text.components(separatedBy: marker).dropFirst().compactMap { $0.components(separatedBy: "```").first }
    }

    /// What one `curl` of an example was answered.
    private struct Answer {
        let status: Int
        let url: String
        let body: String
    }

    /// Every `curl` in a marked example is asked, so an example without the marker would not be.
    @Test(arguments: [("README.md", 3), ("README.tr.md", 2)]) func everyCallOfTheServicesIsMarked(
        name: String, count: Int
    ) throws {
        let text = try String(contentsOf: Checkout.root.appending(path: name), encoding: .utf8)
        let examples = try Self.examples(of: name)
        #expect(examples.count == count)
        let calls = { (text: String) in text.matches(of: /curl [^\n]*(?:\$api|_PORT|\$ENDPOINT)/).count }
        #expect(calls(text) == examples.map(calls).reduce(0, +) && calls(text) > 0)
    }

    @Test func theExamplesWorkForTheAdministratorOfMakeRun() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "codexflow-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        for part in ["scripts", "migrations", "examples"] {
            try FileManager.default.copyItem(
                at: Checkout.root.appending(path: part), to: folder.appending(path: part))
        }
        let compiler = try Self.makeProgram(
            "swift", in: folder.appending(path: "compiler"),
            "case $* in *--show-bin-path) echo '\(Checkout.products.path())' ;; esac")
        let inherited = ProcessInfo.processInfo.environment
        let path = inherited["PATH"] ?? ""
        var environment = ["PATH": "\(compiler):\(path)", "HOME": folder.path()]
        for name in ["TEST_CLUSTERS"] { environment[name] = inherited[name] }
        environment["WEBHOOK_PORT"] = "\(try Self.freePort())"
        environment["ADMIN_PORT"] = "\(try Self.freePort())"
        let run = try ServiceProcess.start(
            path: "/bin/bash", arguments: ["-c", "cd '\(folder.path())' && exec scripts/run"], environment: environment)
        do {
            try await run.waitForOutput("Ctrl-C stops everything.", within: .seconds(120))
            for name in ["README.md", "README.tr.md"] { try await ask(name, in: folder, path: path) }
        } catch {
            run.terminate()
            try await run.waitForExit(within: .seconds(60))
            throw error
        }
        run.terminate()
        #expect(try await run.waitForExit(within: .seconds(60)) == 0)
    }

    /// Runs the examples of one README one after the other, as one does who copies them into a terminal.
    private func ask(_ name: String, in folder: URL, path: String) async throws {
        let answers = folder.appending(path: "answers-\(name)")
        // Beside what is shown, each answer is kept with its status.
        let curl = try Self.makeProgram(
            "curl", in: folder.appending(path: "curl"),
            """
            here=$(mktemp -d "$ANSWERS/$(date +%s%N)-XXXXXX")
            PATH=\(path) command curl --silent --show-error --output "$here/body" \\
                --write-out '%{http_code}\\n%{url_effective}\\n' "$@" >"$here/head" || exit $?
            cat "$here/body"
            """)
        try FileManager.default.createDirectory(at: answers, withIntermediateDirectories: true)
        let examples = try Self.examples(of: name)
        let script = "set -eu -o pipefail\ncd '\(folder.path())'\n" + examples.joined(separator: "\n")
        let output = try await Command.run(
            "/bin/bash", ["-c", script],
            environment: ["PATH": "\(curl):\(path)", "ANSWERS": answers.path(), "HOME": folder.path()])
        let asked = try Self.answers(in: answers)
        let calls = examples.map { $0.matches(of: /\bcurl\s/).count }.reduce(0, +)
        #expect(asked.count == calls, "\(name): \(output)")
        for answer in asked {
            #expect((200..<300).contains(answer.status), "\(name): \(answer.url)\n\(answer.body.prefix(400))")
            #expect(Self.saysSomething(answer.body), "\(name): \(answer.url)\n\(answer.body.prefix(400))")
        }
        let export = try String(contentsOf: folder.appending(path: "logs.csv"), encoding: .utf8)
        #expect(export.split(whereSeparator: \.isNewline).count >= 3, "\(name): \(export.prefix(400))")
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
