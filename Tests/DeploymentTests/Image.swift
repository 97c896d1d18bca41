import Foundation
import TestSupport
import Testing

/// The contents of the image. Its programs run as a container engine runs them: as pid 1 and the image's user, in its
/// read-only root file system, without capabilities. The network is that of this machine.
///
/// The programs are those that were built with the tests.
struct Image {
    let dockerfile: Dockerfile
    /// Debian with the image's packages.
    let root: String
    /// Our own files.
    let stage: String

    private static let preparation = Task { try await Image() }

    /// Made once; the first time in a checkout it takes a minute.
    static func prepared() async throws -> Image { try await preparation.value }

    private init() async throws {
        dockerfile = try Dockerfile()
        let scripts = Checkout.root.appending(path: "scripts").path()
        let suite = try #require(dockerfile.suite)
        root = try await Command.run(
            "\(scripts)/image-root", [suite] + dockerfile.packages, within: .seconds(600))
        // What COPY would make; our files are mounted there, into a root that is read-only by then.
        let destination = root + (try #require(dockerfile.stage))
        try FileManager.default.createDirectory(atPath: destination, withIntermediateDirectories: true)
        stage = Checkout.root.appending(path: ".local/image-stage").path()
        try await Command.run("\(scripts)/stage", [stage, Checkout.products.path()], within: .seconds(600))
    }

    /// The names of the programs and libraries that we bring along.
    func files() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(stage)/bin")
            .filter { !$0.hasSuffix(".resources") }.sorted()
    }

    /// Starts `command` in a container of its own, with the image's environment and `environment`.
    func start(_ command: [String], _ environment: [String: String] = [:]) throws -> Container {
        let user = try #require(dockerfile.user)
        let isolation = [
            "--unshare-user", "--unshare-pid", "--unshare-ipc", "--as-pid-1", "--new-session", "--cap-drop", "ALL",
            "--uid", user.id, "--gid", user.group,
        ]
        let files = [
            "--ro-bind", root, "/", "--ro-bind", stage, try #require(dockerfile.stage), "--proc", "/proc",
            "--dev", "/dev", "--chdir", "/",
        ]
        // By TEST_CLUSTERS `make test` ends what a killed run has left.
        let own = ProcessInfo.processInfo.environment.filter { $0.key == "TEST_CLUSTERS" }
        let variables = own.merging(dockerfile.environment) { $1 }.merging(environment) { $1 }
        let settings = ["--clearenv"] + variables.flatMap { ["--setenv", $0.key, $0.value] }
        return Container(
            process: try ServiceProcess.start(
                path: "/usr/bin/bwrap", arguments: isolation + files + settings + ["--"] + command, environment: own))
    }

    /// Runs `command` to its end; its exit code and what it wrote.
    func run(
        _ command: [String], _ environment: [String: String] = [:]
    ) async throws -> (exitCode: Int32, output: String) {
        let process = try start(command, environment).process
        return (try await process.waitForExit(), process.output)
    }
}

/// A running program of the image.
struct Container {
    /// The process that made the container, and ends as the program does.
    let process: ServiceProcess

    /// SIGTERM to the program itself, which the kernel spares as pid 1 unless it listens.
    func stop() throws {
        let id = process.processID
        let children = try String(contentsOfFile: "/proc/\(id)/task/\(id)/children", encoding: .utf8)
        for child in children.split(separator: " ") {
            kill(try #require(Int32(child)), SIGTERM)
        }
    }
}
