import Bootstrap
import Foundation
import HTTPSupport
import HummingbirdTesting
import NIOCore
import NIOPosix
import NIOSSL
import Testing

/// Which versions of TLS a service speaks, by real handshakes.
@Suite(.timeLimit(.minutes(30))) struct TLSVersionTests {
    /// Whether a client that knows only `version` is answered.
    private func isAnswered(_ version: TLSVersion, port: Int) async throws -> Bool {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.certificateVerification = .none
        (tls.minimumTLSVersion, tls.maximumTLSVersion) = (version, version)
        let context = try NIOSSLContext(configuration: tls)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "localhost", port: port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        NIOSSLClientHandler(context: context, serverHostname: nil))
                    return try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        do {
            return try await channel.executeThenClose { inbound, outbound in
                try await outbound.write(ByteBuffer(string: "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                for try await bytes in inbound { return String(buffer: bytes).hasPrefix("HTTP/1.1 200 ") }
                return false
            }
        } catch {
            // The handshake fails, or the server has closed the connection before it.
            return false
        }
    }

    @Test func tls12IsTheOldestVersionWhateverIsConfigured() async throws {
        let certificate = try NIOSSLCertificate(bytes: Array(TestCertificate.certificate.utf8), format: .pem)
        let key = try NIOSSLPrivateKey(bytes: Array(TestCertificate.key.utf8), format: .pem)
        for asked in [TLSVersion.tlsv1, .tlsv11, .tlsv12] {
            var tls = TLSConfiguration.makeServerConfiguration(
                certificateChain: [.certificate(certificate)], privateKey: .privateKey(key))
            tls.minimumTLSVersion = asked
            var server = TestServer()
            server.settings.tls = tls
            let answered = try await server.test(.ahc(.https)) { client in
                let port = try #require(client.port)
                var answered: [TLSVersion] = []
                for version in [TLSVersion.tlsv1, .tlsv11, .tlsv12, .tlsv13]
                where try await isAnswered(version, port: port) { answered.append(version) }
                return answered
            }
            #expect(answered == [.tlsv12, .tlsv13])
        }
    }
}
