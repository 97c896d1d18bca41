package import HTTPTypes
package import NIOCore

/// How a service writes a failure as JSON: one status and one sentence in, the body out.
package struct ErrorShape: Sendable {
    package let body: @Sendable (HTTPResponse.Status, String) -> ByteBuffer

    package init(_ body: @escaping @Sendable (HTTPResponse.Status, String) -> ByteBuffer) {
        self.body = body
    }

    /// Laravel's: `{"message":"…"}` (`laravel.md` §3).
    package static let laravel = ErrorShape { _, message in json(["message": message]) }

    /// The webhook's: `{"error":"Unauthorized","message":"…"}` (`laravel.md` §3), with the status' own name as error.
    package static let webhook = ErrorShape { status, message in
        json(["error": status.reasonPhrase, "message": message])
    }

    private static func json(_ fields: [String: String]) -> ByteBuffer {
        // A dictionary of strings always encodes; an empty body would still carry the status.
        (try? ByteBuffer(json: fields)) ?? ByteBuffer()
    }
}
