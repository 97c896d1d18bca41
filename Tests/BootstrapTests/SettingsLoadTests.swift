import Bootstrap
import Foundation
import Testing

@Suite(.timeLimit(.minutes(30))) struct SettingsLoadTests {
    @Test func aNamedFileIsReadAndTheRealEnvironmentWins() throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).env")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data("A=file\r\nB=\"${A} ${HOME}\"\r\n".utf8).write(to: file)
        let settings = try SettingsReader.load(
            environment: ["CODEXFLOW_ENV_FILE": file.path, "A": "real", "HOME": "/home/ada"])
        #expect(settings.string(Setting("A", .text, "A text.")) == "real")
        #expect(settings.string(Setting("B", .text, "A text.")) == "real /home/ada")
    }

    @Test func aNamedFileThatIsMissingIsAProblem() {
        let error = #expect(throws: ConfigurationError.self) {
            try SettingsReader.load(environment: ["CODEXFLOW_ENV_FILE": "/nowhere/.env"])
        }
        #expect(error?.description == "CODEXFLOW_ENV_FILE: the file '/nowhere/.env' cannot be read")
    }
}
