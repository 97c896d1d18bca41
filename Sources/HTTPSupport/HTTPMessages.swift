package import Bootstrap
package import HTTPTypes
package import Hummingbird
internal import Logging
package import NIOCore

/// What is known of a request beside its head and body, handed from middleware to middleware to the handler.
package struct AppRequestContext: RequestContext {
    package var coreContext: CoreRequestContextStorage
    /// Who sent the request: the connection's other end, or the client behind a trusted proxy; `nil` on a Unix socket.
    package var clientAddress: IPAddress?
    /// What the access log's line of this request will say.
    package let log: RequestLog

    package init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        clientAddress = source.channel.remoteAddress?.ipAddress.flatMap { IPAddress($0) }
        log = RequestLog()
    }

    /// The request's id in the log's lines; `-` where nothing is logged.
    package var requestID: String { logger[metadataKey: "hb.request.id"]?.description ?? "-" }
}

extension Response {
    /// An answer whose body is finished JSON; `Content-Type` is Laravel's `application/json`.
    package init(status: HTTPResponse.Status, json: ByteBuffer) {
        self.init(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: json))
    }
}

extension HTTPField.Name {
    /// The key of a webhook's sender (`laravel.md` §3).
    package static let apiKey = literal("X-API-Key")
    /// The addresses a request came through, appended by each proxy.
    package static let forwardedFor = literal("X-Forwarded-For")
    /// How the client reached the first proxy: `http` or `https`.
    package static let forwardedProto = literal("X-Forwarded-Proto")

    /// The name a sender gives one request, so that it counts once (draft-ietf-httpapi-idempotency-key-header).
    package static let idempotencyKey = literal("Idempotency-Key")

    /// The id of the spool whose events a body holds, the number of the first, and how many the sender had no room for.
    package static let spool = literal("X-CodexFlow-Spool")
    package static let spoolFirst = literal("X-CodexFlow-First")
    package static let spoolLost = literal("X-CodexFlow-Lost")

    /// Where else to read on, such as the next page (RFC 8288).
    package static let link = literal("Link")

    /// The id of a request in the log's lines.
    package static let requestID = literal("X-Request-Id")

    /// Laravel's proof that a request comes from its own page, as the page has it, and as its cookie has it.
    package static let csrfToken = literal("X-CSRF-TOKEN")
    package static let xsrfToken = literal("X-XSRF-TOKEN")

    /// Whether, and by whom, a page may be framed; what it may load; what it tells of where it came from.
    static let xFrameOptions = literal("X-Frame-Options")
    static let referrerPolicy = literal("Referrer-Policy")

    /// A name written in this file; one that is no token (RFC 9110 §5.6.2) stops the program at its first use.
    private static func literal(_ text: String) -> Self {
        guard let name = Self(text) else { preconditionFailure("'\(text)' is not a header's name") }
        return name
    }
}

/// One name and value of a query string or of a form's body.
///
/// Both are written alike (url.spec.whatwg.org, "application/x-www-form-urlencoded"): a plus is a space, `%2B` is a
/// plus.
package struct FormField: Sendable, Hashable {
    package let name: String
    /// `nil` where its bytes are not UTF-8.
    package let value: String?

    /// The fields that `bytes` write, in their order. A `%` that no two hexadecimal digits follow stands for itself.
    package static func parse(_ bytes: some Sequence<UInt8>) -> [FormField] {
        Array(bytes).split(separator: UInt8(ascii: "&")).map { pair in
            let end = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
            return FormField(
                name: String(decoding: decoded(pair[..<end]), as: UTF8.self),
                value: String(validating: decoded(pair[end...].dropFirst()), as: UTF8.self))
        }
    }

    private static func decoded(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.count)
        var index = bytes.startIndex
        while index < bytes.endIndex {
            let byte = bytes[index]
            index += 1
            switch byte {
            case UInt8(ascii: "+"): decoded.append(UInt8(ascii: " "))
            case UInt8(ascii: "%"):
                let digits = bytes[index...].prefix(2).compactMap(\.hexadecimalDigit)
                if digits.count == 2 {
                    decoded.append(digits[0] << 4 | digits[1])
                    index += 2
                } else {
                    decoded.append(byte)
                }
            default: decoded.append(byte)
            }
        }
        return decoded
    }
}

extension Request {
    /// The fields of the query string.
    package var queryFields: [FormField] { FormField.parse((uri.query ?? "").utf8) }
}

extension UInt8 {
    /// The value of a hexadecimal digit, in either case.
    fileprivate var hexadecimalDigit: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

extension StringProtocol {
    /// The text without spaces and tabs at its ends (RFC 9110 §5.6.3).
    package var trimmingSpaces: SubSequence {
        var text = self[...]
        while let first = text.first, first == " " || first == "\t" { text = text.dropFirst() }
        while let last = text.last, last == " " || last == "\t" { text = text.dropLast() }
        return text
    }
}
