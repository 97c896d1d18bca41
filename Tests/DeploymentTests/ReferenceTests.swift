import Foundation
import TestSupport
import Testing

/// Pages and files that repeat what the programs know.
@Suite(.timeLimit(.minutes(30))) struct ReferenceTests {
    /// After a change of a setting or of a help text, `make reference` writes the pages again.
    @Test func pagesAndExampleAreThoseOfThePrograms() async throws {
        let script = Checkout.root.appending(path: "scripts/reference").path()
        let check = try ServiceProcess.start(path: script, arguments: ["check", Checkout.products.path()])
        #expect(try await check.waitForExit(within: .seconds(300)) == 0, "\(check.output)")
    }

    /// A program does not start with a setting that its table does not have, so its table is complete.
    @Test(arguments: ["webhook-api", "admin-api"]) func theConfigurationInForceIsInTheTable(program: String)
        async throws
    {
        let settings = ["LITELLM_WEBHOOK_KEY": UUID().uuidString, "APP_KEY": String(repeating: "k", count: 32)]
        let read = try await output(of: program, "--print-config", settings)
        let listed = try await output(of: program, "--list-settings", settings)
        let names = read.split(separator: "\n").compactMap { $0.split(separator: "=").first }
        #expect(names.count > 20)
        for name in names { #expect(listed.contains("\"name\": \"\(name)\""), "\(name) is not listed") }
    }

    private func output(
        of program: String, _ flag: String, _ environment: [String: String]
    ) async throws -> String {
        let process = try ServiceProcess.start(product: program, arguments: [flag], environment: environment)
        #expect(try await process.waitForExit() == 0, "\(process.output)")
        return process.output
    }
}
