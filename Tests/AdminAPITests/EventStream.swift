import AsyncHTTPClient
import HTTPSupport
import NIOCore
import NIOHTTP1

@testable import AdminAPI

/// A client of `/api/v1/stream`, which reads events as a browser's `EventSource` does.
final class EventStream {
    struct Event: Sendable, CustomStringConvertible {
        var name = ""
        var data = ""
        var id = ""
        var json: JSON? { JSON(parsing: Array(data.utf8)) }
        var description: String { "\(name) \(id) \(data.prefix(300))" }
    }

    /// The stream ended where an event was expected.
    struct Ended: Error {
        let comments: [String]
    }

    let status: Int
    let headers: HTTPHeaders
    private let client: HTTPClient
    private var body: HTTPClientResponse.Body.AsyncIterator
    private var text: [UInt8] = []
    private(set) var lastEventID = ""
    private(set) var comments: [String] = []

    private init(_ response: HTTPClientResponse, _ client: HTTPClient) {
        (status, headers, body) = (Int(response.status.code), response.headers, response.body.makeAsyncIterator())
        self.client = client
    }

    /// Gives `body` a stream over a connection of its own, which is closed afterwards.
    static func with<T: Sendable>(
        port: Int, _ headers: [(String, String)], query: String = "", _ body: (EventStream) async throws -> T
    ) async throws -> T {
        // The stream itself has no end, so its connection is closed with the client.
        let client = HTTPClient()
        do {
            var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)/api/v1/stream\(query)")
            request.headers = HTTPHeaders(headers + [("Accept", "text/event-stream"), ("Accept-Encoding", "gzip")])
            let response = try await client.execute(request, timeout: .minutes(10))
            let result = try await body(EventStream(response, client))
            try? await client.shutdown()
            return result
        } catch {
            try? await client.shutdown()
            throw error
        }
    }

    /// The next event of this name.
    func next(_ name: String) async throws -> Event {
        while let event = try await next() {
            if event.name == name { return event }
        }
        throw Ended(comments: comments)
    }

    /// The ids of the next logs.
    func logs(_ count: Int) async throws -> [JSON] {
        var ids: [JSON] = []
        while ids.count < count { ids.append(try await next("log").json?["id"] ?? .null) }
        return ids
    }

    /// Reads to the end of the stream, and returns its last comment.
    func end() async throws -> String? {
        while try await next() != nil {}
        return comments.last
    }

    /// The next event with data; `nil` at the end.
    func next() async throws -> Event? {
        while let block = try await block() {
            var event = Event()
            for line in block.split(separator: "\n") {
                if line.hasPrefix(":") {
                    comments.append(line.dropFirst().trimmingSpaces)
                } else if line.hasPrefix("id: ") {
                    lastEventID = String(line.dropFirst(4))
                } else if line.hasPrefix("event: ") {
                    event.name = String(line.dropFirst(7))
                } else if line.hasPrefix("data: ") {
                    event.data = String(line.dropFirst(6))
                }
            }
            event.id = lastEventID
            if !event.data.isEmpty { return event }
        }
        return nil
    }

    private func block() async throws -> String? {
        while true {
            if let end = zip(text.indices, text.indices.dropFirst()).first(where: { text[$0] == 10 && text[$1] == 10 })
            {
                defer { text.removeFirst(end.0 + 2) }
                return String(decoding: text[..<end.0], as: UTF8.self)
            }
            guard let piece = try await body.next() else { return nil }
            text += piece.readableBytesView
        }
    }
}

extension Substring {
    fileprivate var trimmingSpaces: String { String(drop { $0 == " " }) }
}
