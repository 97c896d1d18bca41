import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Postgres
import TestSupport
import Testing

/// The image without a container engine: its packages in a Debian root, its files, its user and its commands.
@Suite(.timeLimit(.minutes(30))) struct ImageTests {
    /// What every Debian has, so that the Dockerfile need not name it.
    private static let base: Set = ["libc6", "libcrypt1", "libgcc-s1", "libstdc++6", "zlib1g"]
    /// What a program reads and is not linked with: the authorities for `DB_SSLMODE=verify-full`, and the charts of the
    /// pages.
    private static let files = [
        "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
        "libjs-chart.js": "/usr/share/javascript/chart.js/chart.min.js",
    ]

    @Test func theImageHasEveryProgramOfThePackage() async throws {
        let package = try String(contentsOf: Checkout.root.appending(path: "Package.swift"), encoding: .utf8)
        let products = package.matches(of: /\.executable\(name: "([^"]+)"/).map { String($0.1) }
        let programs = try await Image.prepared().files().filter { !$0.contains(".so") }
        #expect(!products.isEmpty && programs == products.sorted())
    }

    /// The manifest lists what ships first, then the targets of the tests and the tools for developers.
    @Test func noProgramIsBuiltFromTestsOrTools() throws {
        let package = try String(contentsOf: Checkout.root.appending(path: "Package.swift"), encoding: .utf8)
        let targets = try #require(package.components(separatedBy: "    targets: [").last)
        let parts = targets.components(separatedBy: ".target(\n            name: \"TestSupport\"")
        #expect(parts.count == 2)
        let programs = parts[0].matches(of: /executable\(\s*"(\w+)"/).map { String($0.1) }
        let products = package.matches(of: /\.executable\(name: "[^"]+", targets: \["(\w+)"\]\)/).map { String($0.1) }
        #expect(products.sorted() == programs.sorted())
        for word in ["TestSupport", "Testing", "tool("] { #expect(!parts[0].contains(word)) }
    }

    @Test func everyUserMayReadItAndRunThePrograms() async throws {
        let image = try await Image.prepared()
        let closed = try await Command.run(
            "/usr/bin/find",
            [
                image.stage, "!", "-perm", "-444", "-o", "-path", "*/bin/*", "!", "-path", "*.resources/*", "!",
                "-perm", "-555",
            ])
        #expect(closed == "")
    }

    @Test func theImageHasExactlyThePackagesThatItsProgramsNeed() async throws {
        let image = try await Image.prepared()
        var owners: Set<String> = []
        let files = try image.files()
        for program in files where !program.contains(".so") {
            let loaded = try await image.run([program], ["LD_TRACE_LOADED_OBJECTS": "1"])
            #expect(loaded.exitCode == 0 && !loaded.output.contains("not found"), "\(loaded.output)")
        }
        for file in files {
            let section = try await Command.run("/usr/bin/readelf", ["--dynamic", "\(image.stage)/bin/\(file)"])
            let needed = section.matches(of: /\(NEEDED\).*\[(.+)\]/).map { String($0.1) }
            for library in Set(needed).subtracting(files) {
                let owner = try await Command.run(
                    "/usr/bin/dpkg-query", ["--admindir=\(image.root)/var/lib/dpkg", "--search", "*/\(library)"])
                owners.insert(String(try #require(owner.split(separator: ":").first)))
            }
        }
        #expect(Set(image.dockerfile.packages) == owners.subtracting(Self.base).union(Self.files.keys))
        for file in Self.files.values {
            let size = try FileManager.default.attributesOfItem(atPath: image.root + file)[.size] as? Int
            #expect(try #require(size) > 0, "\(file) is empty")
        }
    }

    @Test func theImageMigratesStoresAnEventAndStops() async throws {
        let image = try await Image.prepared()
        try await withTestDatabase(.empty) { database in
            let port = try await freePort()
            let settings = [
                "DATABASE_URL": database.configuration.url, "WEBHOOK_PORT": String(port),
                "LITELLM_WEBHOOK_KEY": UUID().uuidString,
            ]
            let migration = try await image.run(["codexflow", "migrate"], settings)
            #expect(migration.exitCode == 0)
            #expect(migration.output.contains("applied 0001_laravel_tables"))
            let user = try await image.run(
                ["codexflow", "user", "create", "--name", "Ada", "--email", "ada@example.com"], settings)
            let key = try #require(user.output.firstMatch(of: /cf_[0-9a-f]{64}/)).0

            let webhook = try image.start(image.dockerfile.command(), settings)
            do {
                _ = try await webhook.process.waitUntilListening()
                #expect(try await status(port, "/health/ready") == 200)
                let event = #"{"user_id":"\#(key)","usage":{"prompt_tokens":3},"cost":0.1}"#
                #expect(try await status(port, "/api/webhook/litellm", posting: event, settings) == 201)
                #expect(try await database.number("SELECT count(*) FROM api_logs") == 1)
                let worker = try await image.run(["aggregation-worker", "once"], settings)
                #expect(worker.exitCode == 0 && worker.output.hasSuffix("1 rows rolled up\n"), "\(worker.output)")
                let healthy = try await image.run(image.dockerfile.healthCheck(), settings)
                #expect(healthy == (0, "healthy\n"))
                try webhook.stop()
                #expect(try await webhook.process.waitForExit() == 0)
            } catch {
                webhook.process.kill()
                throw error
            }
            let unhealthy = try await image.run(image.dockerfile.healthCheck(), settings)
            #expect(unhealthy == (1, "unhealthy: no answer from /health/live on 127.0.0.1:\(port)\n"))
        }
    }

    @Test func theImageServesThePagesAndTheirCharts() async throws {
        let image = try await Image.prepared()
        try await withTestDatabase { database in
            let settings = ["DATABASE_URL": database.configuration.url, "ADMIN_PORT": "0"]
            let admin = try image.start(["admin-api"], settings)
            do {
                let port = try await admin.process.waitUntilListening()
                for path in ["sign-in", "assets/pages.css", "assets/chart.js"] {
                    #expect(try await status(port, "/dashboard/\(path)") == 200, "\(path)")
                }
                try admin.stop()
                #expect(try await admin.process.waitForExit() == 0)
            } catch {
                admin.process.kill()
                throw error
            }
        }
    }

    private func status(
        _ port: Int, _ path: String, posting body: String? = nil, _ settings: [String: String] = [:]
    ) async throws -> Int {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
        if let body {
            request.method = .POST
            request.headers.add(name: "X-API-Key", value: settings["LITELLM_WEBHOOK_KEY"] ?? "")
            request.body = .bytes(ByteBuffer(string: body))
        }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        return Int(response.status.code)
    }

    /// A port nobody listens on; the health check needs to know it beforehand.
    private func freePort() async throws -> Int {
        let channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .bind(host: "127.0.0.1", port: 0).get()
        defer { channel.close(promise: nil) }
        return try #require(channel.localAddress?.port)
    }
}
