import Bootstrap
import Foundation
import Testing

@Suite(.timeLimit(.minutes(15))) struct SettingsLoadTests {
    @Test func `A named file is read, and the real environment wins`() throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).env")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data("A=file\r\nB=\"${A} ${HOME}\"\r\n".utf8).write(to: file)
        let settings = try SettingsReader.load(
            environment: ["CODEXFLOW_ENV_FILE": file.path, "A": "real", "HOME": "/home/ada"])
        #expect(settings.string("A") == "real")
        #expect(settings.string("B") == "real /home/ada")
    }

    @Test func `A named file that is missing is a problem`() {
        let error = #expect(throws: ConfigurationError.self) {
            try SettingsReader.load(environment: ["CODEXFLOW_ENV_FILE": "/nowhere/.env"])
        }
        #expect(error?.description == "CODEXFLOW_ENV_FILE: the file '/nowhere/.env' cannot be read")
    }
}
