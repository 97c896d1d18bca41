package import Bootstrap
package import HTTPTypes
package import Hummingbird
internal import Logging
package import NIOCore

/// The values of a request that middleware adds to its head and body.
package struct AppRequestContext: RequestContext {
    /// Hummingbird's own values.
    package var coreContext: CoreRequestContextStorage
    /// The address of the connection's peer, or the one that a trusted proxy names; `nil` on a Unix socket.
    package var clientAddress: IPAddress?
    /// The fields of the request's line in the access log.
    package let log: RequestLog

    /// The context of a request on a connection.
    package init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        clientAddress = source.channel.remoteAddress?.ipAddress.flatMap { IPAddress($0) }
        log = RequestLog()
    }

    /// The request's id in the log; `-` where nothing is logged.
    package var requestID: String { logger[metadataKey: "hb.request.id"]?.description ?? "-" }
}

extension Response {
    /// A response whose body is finished JSON. `Content-Type` is Laravel's `application/json`.
    package init(status: HTTPResponse.Status, json: ByteBuffer) {
        self.init(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: json))
    }
}

extension HTTPField.Name {
    /// The key of a webhook's sender.
    package static let apiKey = literal("X-API-Key")
    /// The addresses that a request came through. Each proxy appends one.
    package static let forwardedFor = literal("X-Forwarded-For")
    /// How the client reached the first proxy: `http` or `https`.
    package static let forwardedProto = literal("X-Forwarded-Proto")

    /// The sender's name for one request, which then counts once (draft-ietf-httpapi-idempotency-key-header).
    package static let idempotencyKey = literal("Idempotency-Key")

    /// The id of the sender's spool.
    package static let spool = literal("X-CodexFlow-Spool")
    /// The number of the body's first event in the spool.
    package static let spoolFirst = literal("X-CodexFlow-First")
    /// The number of events that the sender dropped.
    package static let spoolLost = literal("X-CodexFlow-Lost")

    /// A related address, such as the next page (RFC 8288).
    package static let link = literal("Link")

    /// The request's id in the log.
    package static let requestID = literal("X-Request-Id")

    /// Laravel's CSRF token as its page has it.
    package static let csrfToken = literal("X-CSRF-TOKEN")
    /// Laravel's CSRF token as its cookie has it, encrypted.
    package static let xsrfToken = literal("X-XSRF-TOKEN")

    /// Who may frame a page, and what referrer it sends.
    static let xFrameOptions = literal("X-Frame-Options")
    static let referrerPolicy = literal("Referrer-Policy")

    /// A name written in this file. An invalid name (RFC 9110 §5.6.2) stops the program at its first use.
    private static func literal(_ text: String) -> Self {
        guard let name = Self(text) else { preconditionFailure("'\(text)' is not a header's name") }
        return name
    }
}

/// One name and value of a query string or of a form.
///
/// Both use one notation (url.spec.whatwg.org, "application/x-www-form-urlencoded"): a plus is a space, and `%2B` is a
/// plus.
package struct FormField: Sendable, Hashable {
    /// The name.
    package let name: String
    /// `nil` where its bytes are not UTF-8.
    package let value: String?

    /// The fields of `bytes`, in order. A `%` without two hexadecimal digits after it stands for itself.
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
