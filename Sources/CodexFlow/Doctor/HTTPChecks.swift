import AsyncHTTPClient
import Domain
import Foundation
import HTTPSupport
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Storage

/// Checks what answers at the addresses of the proxy and of webhook-api.
struct HTTPChecks: Sendable {
    private static let timeout = TimeAmount.seconds(4)

    let now: @Sendable () -> Timestamp

    /// The answer, or why there is none.
    private enum Outcome {
        case answer(status: Int, body: String, headers: [String: String], asked: Timestamp, answered: Timestamp)
        case unreachable
        /// The connection was accepted, but the answer is no HTTP, is late, or has a certificate that is not trusted.
        case unintelligible
    }

    /// Whether LiteLLM answers, and whether its clock is right.
    ///
    /// - Throws: What the HTTP client throws when it ends.
    func proxy(_ url: URL?) async throws -> [Finding] {
        guard let url, let host = url.host() else {
            return [.ok("proxy", "LITELLM_PROXY_URL is not set: not checked")]
        }
        let remedy = "Check LITELLM_PROXY_URL, that LiteLLM runs there, and its certificate."
        switch try await get(url.appending(path: "health/liveliness").absoluteString, acceptsAnyCertificate: false) {
        case .unreachable: return [.failure("proxy", "nothing answers at \(host)", remedy)]
        case .unintelligible: return [.failure("proxy", "\(host) gives no HTTP answer that can be trusted", remedy)]
        case .answer(let status, _, _, _, _) where status != 200:
            return [.failure("proxy", "\(host) answers \(status)", remedy)]
        case .answer(_, let body, let headers, let asked, let answered):
            guard body.contains("alive") else {
                return [.warning("proxy", "\(host) answers, but not as LiteLLM does", remedy)]
            }
            let named = headers["x-litellm-version"]
            let version = named.map { ", version \($0.prefix(40))" } ?? ""
            let judged = named.flatMap { LiteLLMVersion($0) }?.finding
            let way = url.scheme == "https" ? " over TLS" : ""
            let clock = headers["date"].flatMap(Self.moment).map {
                ClockSkew.finding(
                    of: "the proxy", other: $0, resolution: .seconds(1), asked: asked, answered: answered)
            }
            return [.ok("proxy", "LiteLLM answers at \(host)\(way)\(version)")] + [judged, clock].compactMap { $0 }
        }
    }

    /// Whether webhook-api answers at the address of its settings, and no other program does.
    ///
    /// - Throws: What the HTTP client throws when it ends.
    func webhook(_ server: HTTPServerSettings) async throws -> [Finding] {
        guard server.port != 0 else { return [.ok("webhook-api", "the system chooses its port: not checked")] }
        let host = HealthProbe.loopback(for: server.host)
        let address = host.contains(":") ? "[\(host)]:\(server.port)" : "\(host):\(server.port)"
        let taken = Finding.failure(
            "webhook-api", "something else answers at \(address)",
            "Stop it, or set WEBHOOK_PORT to a free port and LiteLLM's endpoint with it.")
        // Its certificate is for its public name, not for the loopback address.
        let scheme = server.tls == nil ? "http" : "https"
        switch try await get("\(scheme)://\(address)/health/ready", acceptsAnyCertificate: true) {
        case .unreachable:
            return [
                .warning(
                    "webhook-api", "nothing listens at \(address)",
                    "Start webhook-api, or run the doctor on its host with its settings.")
            ]
        case .unintelligible: return [taken]
        case .answer(let status, let body, _, _, _):
            let health = try? JSONDecoder().decode(Health.self, from: Data(body.utf8))
            switch (status, health?.status) {
            case (200, "ok"): return [.ok("webhook-api", "ready at \(address)")]
            case (503, "unavailable"):
                return [.failure("webhook-api", "at \(address), not ready", "See the database findings and its log.")]
            default: return [taken]
            }
        }
    }

    private struct Health: Decodable {
        let status: String
    }

    private func get(_ url: String, acceptsAnyCertificate: Bool) async throws -> Outcome {
        var configuration = HTTPClient.Configuration(timeout: .init(connect: Self.timeout))
        configuration.connectionPool.retryConnectionEstablishment = false
        if acceptsAnyCertificate {
            configuration.tlsConfiguration = .makeClientConfiguration()
            configuration.tlsConfiguration?.certificateVerification = .none
        }
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        let outcome = await outcome(of: HTTPClientRequest(url: url), client)
        try await client.shutdown()
        return outcome
    }

    private func outcome(of request: HTTPClientRequest, _ client: HTTPClient) async -> Outcome {
        do {
            let asked = now()
            let response = try await client.execute(request, timeout: Self.timeout)
            let answered = now()
            let body = try await response.body.collect(upTo: 1 << 16)
            let headers = Dictionary(
                response.headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first })
            return .answer(
                status: Int(response.status.code), body: String(buffer: body), headers: headers, asked: asked,
                answered: answered)
        } catch is NIOConnectionError {
            return .unreachable
        } catch let error as IOError where ![ECONNRESET, EPIPE].contains(error.errnoCode) {
            return .unreachable
        } catch let error as HTTPClientError where error == .connectTimeout {
            return .unreachable
        } catch {
            return .unintelligible
        }
    }

    /// A `Date` header's moment (RFC 9110 §5.6.7).
    private static func moment(_ text: String) -> Timestamp? {
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX")
        format.timeZone = .gmt
        format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        return format.date(from: text).map { Timestamp(microseconds: Int64($0.timeIntervalSince1970) * 1_000_000) }
    }
}
