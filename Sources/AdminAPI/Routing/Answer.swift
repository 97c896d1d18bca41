import Crypto
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import NIOCore

/// What a handler answers, before it becomes bytes.
struct Answer: Sendable {
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

    static func json(_ value: JSON, status: HTTPResponse.Status = .ok) -> Answer {
        Answer(status: status, content: .json(value))
    }

    /// `{"message": …}`
    static func message(_ text: String) -> Answer { .json(["message": .string(text)]) }

    /// The answer to `request`; a read whose reader has it already is 304 (RFC 9110 §13.1.2).
    func response(to request: Request) -> Response {
        switch content {
        case .json(let value): whole(value.buffer, type: "application/json", request)
        case .text(let text, let type): whole(ByteBuffer(string: text), type: type, request)
        case .stream(let type, let write):
            Response(
                status: status, headers: headers.with(.contentType, type), body: ResponseBody(contentLength: nil, write)
            )
        }
    }

    private func whole(_ body: ByteBuffer, type: String, _ request: Request) -> Response {
        var headers = headers.with(.contentType, type)
        guard status == .ok, [.get, .head].contains(request.method) else {
            return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: body))
        }
        let digest = SHA256.hash(data: body.readableBytesView).lowercaseHex.prefix(32)
        // Weak: a proxy may compress the same answer.
        let tag = "W/\"\(digest)\""
        headers[.eTag] = tag
        let known = request.headers[values: .ifNoneMatch].flatMap { $0.split(separator: ",") }.map(\.trimmingSpaces)
        if known.contains(where: { $0 == tag || $0 == "*" || "W/\($0)" == tag }) {
            headers[.contentType] = nil
            return Response(status: .notModified, headers: headers)
        }
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: body))
    }
}

extension HTTPFields {
    /// With one field more.
    fileprivate func with(_ name: HTTPField.Name, _ value: String) -> HTTPFields {
        var fields = self
        fields[name] = value
        return fields
    }
}
