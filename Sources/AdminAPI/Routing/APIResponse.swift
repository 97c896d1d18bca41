import Crypto
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import NIOCore

/// What a handler answers, before it becomes bytes.
struct APIResponse: Sendable {
    typealias Writer = @Sendable (inout any ResponseBodyWriter) async throws -> Void

    enum Content: Sendable {
        case json(JSON)
        case text(String, type: String)
        /// Written piece by piece while it is made.
        case stream(type: String, Writer)
    }

    var status: HTTPResponse.Status = .ok
    var headers = HTTPFields()
    let content: Content
    /// Whether it has a key or token in it. Compressed beside words of a stranger, its length would tell what it is (BREACH).
    var holdsSecret = false

    static func json(_ value: JSON, status: HTTPResponse.Status = .ok) -> APIResponse {
        APIResponse(status: status, content: .json(value))
    }

    /// `{"message": …}`
    static func message(_ text: String) -> APIResponse { .json(["message": .string(text)]) }

    /// The answer to `request`, which differs by the request's headers `vary`; a read whose reader has it already is 304
    /// (RFC 9110 §13.1.2).
    func response(to request: Request, vary: [HTTPField.Name]) -> Response {
        switch content {
        case .json(let value): whole(value.buffer, type: "application/json", request, vary)
        case .text(let text, let type): whole(ByteBuffer(string: text), type: type, request, vary)
        case .stream(let type, let write):
            streamed(ResponseBody(contentLength: nil, write), type: type, request, vary)
        }
    }

    private func streamed(
        _ body: ResponseBody, type: String, _ request: Request, _ vary: [HTTPField.Name]
    ) -> Response {
        let headers = headers.with(.contentType, type).with(.vary, (vary + [.acceptEncoding]).list)
        guard request.acceptsGzip else { return Response(status: status, headers: headers, body: body) }
        return Response(status: status, headers: headers.with(.contentEncoding, "gzip"), body: body.gzipped)
    }

    /// `nil` where it is not worth it; a long one is made while it is sent, as the thread here serves others too.
    private static func gzipped(_ body: ByteBuffer) -> ResponseBody? {
        body.readableBytes > longAnswer
            ? ResponseBody(byteBuffer: body).gzipped : body.gzipped.map(ResponseBody.init(byteBuffer:))
    }

    private static let longAnswer = 256 << 10

    /// A change's answer is small, and may show a new key: only reads are compressed.
    private func whole(_ body: ByteBuffer, type: String, _ request: Request, _ vary: [HTTPField.Name]) -> Response {
        var headers = headers.with(.contentType, type)
        guard status == .ok, [.get, .head].contains(request.method) else {
            return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: body))
        }
        let vary = holdsSecret ? vary : vary + [.acceptEncoding]
        if !vary.isEmpty { headers[.vary] = vary.list }
        let digest = SHA256.hash(data: body.readableBytesView).lowercaseHex.prefix(32)
        // Weak: the same answer, compressed here or by a proxy, has other bytes (RFC 9110 §8.8.1).
        let tag = "W/\"\(digest)\""
        headers[.eTag] = tag
        let known = request.headers[values: .ifNoneMatch].flatMap { $0.split(separator: ",") }.map(\.trimmingSpaces)
        if known.contains(where: { $0 == tag || $0 == "*" || "W/\($0)" == tag }) {
            headers[.contentType] = nil
            return Response(status: .notModified, headers: headers)
        }
        guard !holdsSecret, request.acceptsGzip, let compressed = Self.gzipped(body) else {
            return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: body))
        }
        headers[.contentEncoding] = "gzip"
        return Response(status: status, headers: headers, body: compressed)
    }
}

extension [HTTPField.Name] {
    fileprivate var list: String { map(\.rawName).joined(separator: ", ") }
}

extension HTTPFields {
    /// With one field more.
    fileprivate func with(_ name: HTTPField.Name, _ value: String) -> HTTPFields {
        var fields = self
        fields[name] = value
        return fields
    }
}
