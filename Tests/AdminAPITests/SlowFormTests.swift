import Domain
import Foundation
import NIOCore
import NIOPosix
import Postgres
import Storage
import TestSupport
import Testing

@testable import AdminAPI

/// A form whose body arrives slowly.
@Suite(.timeLimit(.minutes(10))) struct SlowFormTests {
    @Test func aUserWhoIsSuspendedWhileTheFormArrivesChangesNothing() async throws {
        try await LiveAdmin.with(seed: "SELECT 1") { admin in
            let token = try await admin.token(of: 1)
            let seal = PageCookie.Session(token: token, passwordHash: "x").seal
            let form = "confirm=yes&_token=\(FormKey(secret: token).token())"
            let head = """
                POST /dashboard/key/rotate HTTP/1.1\r
                Host: x\r
                Connection: close\r
                Cookie: codexflow_session=\(token)~\(seal)\r
                Content-Type: application/x-www-form-urlencoded\r
                Content-Length: \(form.utf8.count)\r
                \r

                """
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(host: "127.0.0.1", port: admin.port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
            let answer = try await channel.executeThenClose { inbound, outbound in
                try await outbound.write(ByteBuffer(string: head + form.prefix(7)))
                // The service has seen who asks.
                try await eventually("the token is used") {
                    try await admin.database.number(
                        "SELECT count(*) FROM personal_access_tokens WHERE last_used_at IS NOT NULL") == 1
                }
                try await admin.database.execute("UPDATE users SET status = 'suspended' WHERE id = 1")
                try await outbound.write(ByteBuffer(string: String(form.dropFirst(7))))
                var text = ""
                for try await part in inbound { text += String(buffer: part) }
                return text
            }
            #expect(answer.hasPrefix("HTTP/1.1 401"), "\(answer.prefix(600))")
            let key = try await admin.database.text("SELECT api_key FROM users WHERE id = 1")
            #expect(key == "cf_key_of_1")
        }
    }
}
