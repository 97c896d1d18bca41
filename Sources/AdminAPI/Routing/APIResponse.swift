import Crypto
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import NIOCore

/// A handler's answer, before it becomes bytes.
struct APIResponse: Sendable {
    typealias Writer = @Sendable (inout any ResponseBodyWriter) async throws -> Void

    enum Content: Sendable {
        case json(JSON)
        case text(String, type: String)
        case bytes([UInt8], type: String)
        /// Sent in chunks while it is made.
        case stream(type: String, Writer)
        /// Server-sent events, which are not compressed: each must arrive at once.
        case events(Writer)
    }

    var status: HTTPResponse.Status = .ok
    var headers = HTTPFields()
    let content: Content
    /// Whether the answer contains a key or token. Such an answer is not compressed, because its compressed length
    /// could reveal the secret to a sender who controls other parts of it (BREACH).
    var holdsSecret = false

    static func json(_ value: JSON, status: HTTPResponse.Status = .ok) -> APIResponse {
        APIResponse(status: status, content: .json(value))
    }

    /// JSON that is already encoded.
    static func json(_ text: [UInt8]) -> APIResponse { APIResponse(content: .bytes(text, type: "application/json")) }

    /// The same answer, its JSON encoded.
    var encoded: APIResponse {
        guard case .json(let value) = content else { return self }
        let bytes = Array(value.buffer.readableBytesView)
        return APIResponse(
            status: status, headers: headers, content: .bytes(bytes, type: "application/json"),
            holdsSecret: holdsSecret)
    }

    /// The HTTP response to `request`. The answer depends on the request headers `vary`. A read with a matching
    /// `If-None-Match` is answered 304 (RFC 9110 §13.1.2).
    func response(to request: Request, vary: [HTTPField.Name]) -> Response {
        switch content {
        case .json(let value): whole(value.buffer, type: "application/json", request, vary)
        case .text(let text, let type): whole(ByteBuffer(string: text), type: type, request, vary)
        case .bytes(let bytes, let type): whole(ByteBuffer(bytes: bytes), type: type, request, vary)
        case .stream(let type, let write):
            streamed(ResponseBody(contentLength: nil, write), type: type, request, vary)
        case .events(let write):
            Response(
                status: status, headers: headers.with(.contentType, "text/event-stream"),
                body: ResponseBody(contentLength: nil, write))
        }
    }

    private func streamed(
        _ body: ResponseBody, type: String, _ request: Request, _ vary: [HTTPField.Name]
    ) -> Response {
        let headers = headers.with(.contentType, type).with(.vary, (vary + [.acceptEncoding]).list)
        guard request.acceptsGzip else { return Response(status: status, headers: headers, body: body) }
        return Response(status: status, headers: headers.with(.contentEncoding, "gzip"), body: body.gzipped)
    }

    /// The compressed body; `nil` where compression saves nothing. A long body is compressed while it is sent, because
    /// the thread serves other requests too.
    private static func gzipped(_ body: ByteBuffer) -> ResponseBody? {
        body.readableBytes > longAnswer
            ? ResponseBody(byteBuffer: body).gzipped : body.gzipped.map(ResponseBody.init(byteBuffer:))
    }

    private static let longAnswer = 256 << 10

    /// Only reads are compressed. The answer to a change is small, and may contain a new key.
    private func whole(_ body: ByteBuffer, type: String, _ request: Request, _ vary: [HTTPField.Name]) -> Response {
        var headers = headers.with(.contentType, type)
        guard status == .ok, [.get, .head].contains(request.method) else {
            return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: body))
        }
        let vary = holdsSecret ? vary : vary + [.acceptEncoding]
        if !vary.isEmpty { headers[.vary] = vary.list }
        let digest = SHA256.hash(data: body.readableBytesView).lowercaseHex.prefix(32)
        // The tag is weak, because the compressed answer has other bytes (RFC 9110 §8.8.1).
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
    /// The fields with one field more.
    fileprivate func with(_ name: HTTPField.Name, _ value: String) -> HTTPFields {
        var fields = self
        fields[name] = value
        return fields
    }
}

extension Format {
    /// The media types of an answer that is JSON of `schema`, or the same rows as text.
    static func content(_ schema: JSON) -> [(type: String, schema: JSON)] {
        [("application/json", schema)] + types.map { ($0, Schema.string) }
    }
}
