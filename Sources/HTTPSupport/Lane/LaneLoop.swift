internal import Bootstrap
internal import CoreMetrics
internal import Domain
internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import NIOCore
internal import NIOHTTP1

/// What the connections of one event loop share: the checks of requests, the form of answers, the access log and the
/// metrics of a lane.
final class LaneLoop {
    /// How many buffers of bodies are kept, and the bytes of the largest.
    private static let (spareCount, spareBytes) = (2, 2 << 20)

    let lane: Lane
    let server: LaneServer
    let responder: any LaneResponder
    private let eventLoop: any EventLoop
    private let metrics = RequestMetrics()
    private var lines: LineBuffer?
    private var spareBodies: [ByteBuffer] = []
    /// What every answer has besides its date: for a path below `/api`, and for another.
    private let headers: (api: String, other: String)
    /// The header `Date` of a second since 1970.
    private var date: (second: Int64, line: String) = (.min, "")

    init(_ eventLoop: any EventLoop, _ lane: Lane, _ server: LaneServer) {
        self.eventLoop = eventLoop
        self.lane = lane
        self.server = server
        responder = lane.makeResponder(eventLoop)
        lines = server.logger.logLevel <= .info ? lane.write.map { LineBuffer(label: server.name, write: $0) } : nil
        headers = (Self.headers(server, isAPI: true), Self.headers(server, isAPI: false))
    }

    private static func headers(_ server: LaneServer, isAPI: Bool) -> String {
        var fields: HTTPFields = [.server: server.name]
        server.headers.addHeaders(to: &fields, isAPI: isAPI, origin: nil)
        return lines(fields)
    }

    /// Each field with its line break.
    private static func lines(_ fields: HTTPFields) -> String {
        fields.map { "\($0.name.rawName): \($0.value)\r\n" }.joined()
    }

    /// The client of a request that came from `peer`.
    func client(_ peer: IPAddress?, _ head: HTTPRequestHead) -> IPAddress? {
        peer.map { server.clients.address.client($0, forwardedFor: head.headers[HTTPField.Name.forwardedFor.rawName]) }
    }

    /// Checks who asks, before any byte of the body is read.
    ///
    /// - Throws: ``AppError`` `.forbidden`, `.tooManyRequests` or `.unauthorized`.
    func check(_ request: LaneRequest) throws(AppError) {
        try server.clients.allowed?.check(request.client)
        try server.clients.limiter?.check(request.client)
        try WebhookAuthentication.check(lane.keys) { request[$0] }
    }

    /// The answer to a request that failed with `error`, which is counted and logged.
    func answer(to error: any Error, _ request: LaneRequest) -> LaneAnswer {
        let failure = Failure(error, path: request.path, requestID: request.id)
        var logger = server.logger
        logger[metadataKey: "hb.request.id"] = "\(request.id)"
        failure.report(error, to: logger)
        var headers: HTTPFields = [.contentType: server.errorShape.contentType(failure)]
        headers.append(contentsOf: failure.headers)
        return LaneAnswer(failure.status, String(buffer: server.errorShape.body(failure).buffer), headers: headers)
    }

    /// The bytes of an answer.
    func bytes(of answer: LaneAnswer, to request: LaneRequest, _ allocator: ByteBufferAllocator) -> ByteBuffer {
        let body = answer.body.utf8
        var buffer = allocator.buffer(capacity: 512 + body.count)
        buffer.writeStaticString("HTTP/1.1 ")
        buffer.writeString(String(answer.status.code))
        buffer.writeStaticString(" ")
        // As NIO names it on other routes; the name has no meaning (RFC 9112 §4).
        buffer.writeString(HTTPResponseStatus(statusCode: answer.status.code).reasonPhrase)
        buffer.writeStaticString("\r\nContent-Length: ")
        buffer.writeString(String(body.count))
        buffer.writeStaticString("\r\nX-Request-Id: ")
        buffer.writeString(request.id)
        buffer.writeStaticString("\r\n")
        for field in answer.headers {
            buffer.writeString(field.name.rawName)
            buffer.writeStaticString(": ")
            buffer.writeString(field.value)
            buffer.writeStaticString("\r\n")
        }
        buffer.writeString(HeadersMiddleware.isAPI(request.path) ? headers.api : headers.other)
        buffer.writeString(dateLine)
        buffer.writeStaticString("\r\n")
        buffer.writeString(answer.body)
        return buffer
    }

    private var dateLine: String {
        let now = Timestamp.now
        let second = now.microseconds / 1_000_000
        if second != date.second { date = (second, "Date: \(now.httpDate)\r\n") }
        return date.line
    }

    /// An empty buffer for a body. The system clears the pages of a new one, which costs more than to read the body.
    func takeBody() -> ByteBuffer {
        guard var body = spareBodies.popLast() else { return ByteBuffer() }
        body.clear()
        return body
    }

    /// Takes the buffer of a body that was read, for another body.
    func giveBack(_ body: ByteBuffer) {
        guard spareBodies.count < Self.spareCount, (1...Self.spareBytes).contains(body.capacity) else { return }
        spareBodies.append(body)
    }

    /// Counts and times the request, and adds its line to the access log.
    func record(_ request: LaneRequest, status: Int) {
        let nanoseconds = (NIODeadline.now() - request.start).nanoseconds
        metrics.record(method: "POST", route: server.path, status: status, nanoseconds: nanoseconds)
        guard lines != nil else { return }
        let own = [
            ("bytes_in", String(request.bytesIn)), ("client", request.client?.description ?? "-"),
            ("duration_ms", String(Double(nanoseconds / 10_000) / 100)), ("hb.request.id", request.id),
            ("method", "POST"), ("path", request.path), ("status", String(status)),
        ]
        if lines?.isEmpty == true { eventLoop.assumeIsolated().execute { self.flushLines() } }
        lines?.append("request", own.merged(with: request.facts), at: .now)
    }

    func flushLines() { lines?.flush() }
}

extension [(String, String)] {
    /// Two lists that are sorted by their names, as one.
    fileprivate func merged(with others: Self) -> Self {
        guard !others.isEmpty else { return self }
        var result: Self = []
        result.reserveCapacity(count + others.count)
        var rest = others[...]
        for pair in self {
            while let other = rest.first, other.0 < pair.0 {
                result.append(other)
                rest.removeFirst()
            }
            result.append(pair)
        }
        return result + rest
    }
}

extension Timestamp {
    /// As in the header `Date` (RFC 9110 §5.6.7): `Sun, 29 Nov 2026 10:32:15 GMT`.
    var httpDate: String {
        let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        // 1970-01-01 was a Thursday.
        let weekday = weekdays[Int(microseconds / 86_400_000_000 % 7)]
        let parts = sqlText.split { $0 == "-" || $0 == " " }
        let month = Int(parts[1]).map { months[$0 - 1] } ?? ""
        return "\(weekday), \(parts[2]) \(month) \(parts[0]) \(parts[3]) GMT"
    }
}
