import Foundation
import TestSupport

/// Debian's nginx as a child of the test, with the lines of `docs/laravel.md` for `/api`, and a stand-in for Laravel.
struct ReverseProxy: Sendable {
    static let page = "<title>Laravel</title>"

    private struct NoFreePort: Error {}

    let port: Int

    /// Gives `body` a running nginx that routes `/api` to `admin` and everything else to a page.
    static func with(
        before admin: LiveAdmin, _ body: @escaping @Sendable (ReverseProxy) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (nginx, port) = try await start(in: folder, before: admin)
        do {
            try await body(ReverseProxy(port: port))
        } catch {
            nginx.kill()
            try await nginx.waitForExit()
            throw error
        }
        nginx.terminate()
        try await nginx.waitForExit()
    }

    /// On a free port below the kernel's own, where no client's socket comes and goes.
    private static func start(in folder: URL, before admin: LiveAdmin) async throws -> (ServiceProcess, Int) {
        for _ in 0..<20 {
            let port = Int.random(in: 20_000..<32_000)
            let file = folder.appending(path: "nginx.conf")
            try configuration(folder, port: port, admin: admin.port).write(to: file, atomically: true, encoding: .utf8)
            let nginx = try ServiceProcess.start(
                path: "/usr/sbin/nginx", arguments: ["-p", folder.path(), "-e", "stderr", "-c", file.path()])
            do {
                // Said when its sockets are open.
                try await nginx.waitForOutput("using the \"epoll\" event method")
                return (nginx, port)
            } catch {
                nginx.kill()
                try await nginx.waitForExit()
                guard nginx.output.contains("Address already in use") else { throw error }
            }
        }
        throw NoFreePort()
    }

    private static func configuration(_ folder: URL, port: Int, admin: Int) throws -> String {
        let locations = try MarkdownPage("docs/laravel.md").block("nginx", with: "location /api/ {")
            .replacing("127.0.0.1:8082", with: "127.0.0.1:\(admin)")
            // Nobody listens on the discard port.
            .replacing("127.0.0.1:8081", with: "127.0.0.1:9")
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map { "\($0)_temp_path \(folder.path())/\($0);" }.joined(separator: " ")
        return """
            daemon off;
            master_process off;
            pid \(folder.path())/pid;
            error_log stderr notice;
            events {}
            http {
                access_log off;
                \(folders)
                server {
                    listen 127.0.0.1:\(port);
                    \(locations)
                    location / { default_type text/html; return 200 "\(page)"; }
                }
            }
            """
    }
}
