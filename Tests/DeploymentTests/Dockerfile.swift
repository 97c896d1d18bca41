import Foundation
import TestSupport

/// The last stage of this checkout's Dockerfile, as far as a container engine would act on it.
struct Dockerfile {
    private var instructions: [(name: String, arguments: String)] = []

    init() throws {
        let text = try String(contentsOf: Checkout.root.appending(path: "Dockerfile"), encoding: .utf8)
        let lines = text.replacing("\\\n", with: " ").split(separator: "\n").filter { !$0.hasPrefix("#") }
        for line in lines {
            let words = line.split(separator: " ", maxSplits: 1)
            if words[0] == "FROM" { instructions = [] }
            instructions.append((String(words[0]), words.count == 2 ? String(words[1]) : ""))
        }
    }

    /// The suite of the Debian that the image is made from.
    var suite: String? { all("FROM").first?.firstMatch(of: /^debian:(\w+)-slim$/).map { String($0.1) } }

    /// What `apt-get install` installs.
    var packages: [String] {
        let command = all("RUN").compactMap { $0.firstMatch(of: /apt-get install ([^&]*)/)?.1 }.joined(separator: " ")
        return command.split(separator: " ").filter { !$0.hasPrefix("-") }.map(String.init)
    }

    /// Where the image has what `scripts/stage` lays out.
    var stage: String? { all("COPY").first?.firstMatch(of: /^--from=build \/stage (\S+)$/).map { String($0.1) } }

    /// The user's and the group's number.
    var user: (id: String, group: String)? {
        all("USER").last?.firstMatch(of: /^([1-9]\d*):([1-9]\d*)$/).map { (String($0.1), String($0.2)) }
    }

    var environment: [String: String] {
        let pairs = all("ENV").flatMap { $0.split(separator: " ") }.map { $0.split(separator: "=", maxSplits: 1) }
        return Dictionary(uniqueKeysWithValues: pairs.map { (String($0[0]), String($0[1])) })
    }

    /// The program that starts where the command says nothing else.
    func command() throws -> [String] { try words(of: all("CMD").last ?? "") }

    func healthCheck() throws -> [String] {
        try words(of: all("HEALTHCHECK").last?.split(separator: "CMD ").last.map(String.init) ?? "")
    }

    private func all(_ name: String) -> [String] { instructions.filter { $0.name == name }.map(\.arguments) }

    private func words(of json: String) throws -> [String] {
        try JSONDecoder().decode([String].self, from: Data(json.utf8))
    }
}
