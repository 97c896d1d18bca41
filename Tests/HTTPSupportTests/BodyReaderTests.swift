import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Logging
import NIOCore
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct BodyReaderTests {
    private static func routes(_ reader: BodyReader) -> [HTTPRoute] {
        [
            HTTPRoute(.post, "/sum") { request, context in
                try await reader.withBody(of: request, context: context) { bytes in
                    let padding = UnsafeRawBufferPointer(start: bytes.baseAddress?.advanced(by: bytes.count), count: 64)
                    let sum = bytes.reduce(0) { $0 &+ Int($1) }
                    return "\(bytes.count) \(sum) \(padding.allSatisfy { $0 == 0 })"
                }
            }
        ]
    }

    private func test<T>(
        limit: Int = 1 << 20, budget: ByteBudget = ByteBudget(), _ setup: TestingSetup = .live,
        server: TestServer = TestServer(), _ body: @Sendable (any TestClientProtocol) async throws -> T
    ) async throws -> T {
        try await server.test(setup, routes: Self.routes(BodyReader(limit: limit, budget: budget)), body)
    }

    @Test(arguments: [0, 1, 63, 64, 65, 16_384, 16_385, 300_000, 1 << 20])
    func aBodyArrivesWholeWithZeroedPaddingAndItsBytesAreReleased(length: Int) async throws {
        let budget = ByteBudget()
        let server = TestServer()
        let text = try await test(budget: budget, server: server) { client in
            let body = ByteBuffer(repeating: 7, count: length)
            return try await client.execute(uri: "/sum", method: .post, body: body).text
        }
        #expect(text == "\(length) \(7 * length) true")
        #expect(budget.usage == (0, 0))
        #expect(server.requestLines.map { $0["bytes_in"] } == ["\(length)"])
    }

    @Test func manyBodiesStayWithinTheBudgetAndAllArrive() async throws {
        let budget = ByteBudget(capacity: 100_000)
        try await test(budget: budget, .ahc()) { client in
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<40 {
                    group.addTask {
                        let body = ByteBuffer(repeating: 1, count: 40_000)
                        return try await client.execute(uri: "/sum", method: .post, body: body).text
                    }
                }
                for try await text in group { #expect(text == "40000 40000 true") }
            }
        }
        #expect(budget.usage == (0, 0))
    }

    @Test func anAnnouncedLengthOverTheLimitIsRefusedBeforeTheBodyArrives() async throws {
        let answer = try await test(limit: 1000) { client in
            try await RawConnection.run(port: try #require(client.port)) { connection in
                try await connection.send("POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
                return try await connection.receive(until: "limit")
            }
        }
        #expect(answer.hasPrefix("HTTP/1.1 413 "))
        #expect(answer.hasSuffix(#"{"message":"The body is over the limit of 1000 bytes."}"#))
    }

    private func chunked(_ length: Int, piece: Int = 1000) -> String {
        let pieces = stride(from: 0, to: length, by: piece).map { min(piece, length - $0) }
        let chunks = pieces.map { "\(String($0, radix: 16))\r\n\(String(repeating: "a", count: $0))\r\n" }
        return "POST /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(chunks.joined())0\r\n\r\n"
    }

    @Test func aBodyOfUnknownLengthHasTheSameLimitAndBudget() async throws {
        let budget = ByteBudget(capacity: 100_000)
        let answers = try await test(limit: 200_000, budget: budget) { client in
            let port = try #require(client.port)
            return try await [200_000, 200_001].asyncMap { length in
                try await RawConnection.run(port: port) { connection in
                    try await connection.send(chunked(length))
                    return try await connection.receive(until: length == 200_000 ? "true" : "limit")
                }
            }
        }
        #expect(answers[0].hasSuffix("200000 \(200_000 * 97) true"))
        #expect(answers[1].hasPrefix("HTTP/1.1 413 "))
        #expect(budget.usage == (0, 0))
    }

    @Test func withoutFreeMemoryTheAnswerIs503WithRetryAfter() async throws {
        let budget = ByteBudget(capacity: 10, sleep: { _ in })
        try await budget.acquire(10)
        let response = try await test(budget: budget) { client in
            try await client.execute(uri: "/sum", method: .post, body: ByteBuffer(string: "x"))
        }
        #expect(response.status == .serviceUnavailable)
        #expect(response.headers[.retryAfter] == "1")
        #expect(budget.usage == (10, 0))
    }

    @Test func aHalfBodyIsNotHandledAndItsBytesAreReleased() async throws {
        let budget = ByteBudget()
        let server = TestServer()
        try await test(budget: budget, server: server) { client in
            try await RawConnection.run(port: try #require(client.port)) { connection in
                try await connection.send("POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
                try await eventually("the half is held") { budget.usage.used > 0 }
            }
            try await eventually("the request is logged") { !server.requestLines.isEmpty }
        }
        #expect(server.requestLines.map { $0["status"] } == ["400"])
        #expect(budget.usage == (0, 0))
    }

    @Test func aSilentSenderIsDisconnectedAndItsBytesAreReleased() async throws {
        let budget = ByteBudget()
        let server = TestServer(settings: HTTPServerSettings(port: 0, idleTimeout: .milliseconds(50)))
        try await test(budget: budget, server: server) { client in
            let port = try #require(client.port)
            // On a busy machine a connection may be cut off before its first byte; one that sends in time will come.
            try await eventually("the request is logged") {
                _ = try? await RawConnection.run(port: port) { connection in
                    try await connection.send("POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
                    return try await connection.receiveAll()
                }
                return !server.requestLines.isEmpty
            }
        }
        #expect(server.requestLines.allSatisfy { $0["status"] == "400" })
        #expect(budget.usage == (0, 0))
    }

    @Test func anonymousSendersReserveArrivedBytesUpToTheirShare() async throws {
        let budget = ByteBudget(capacity: 160_000, share: 80_000, timeout: .milliseconds(50))
        let reader = BodyReader(limit: 1 << 20, budget: budget, senders: .anyone)
        try await TestServer().test(.live, routes: Self.routes(reader)) { client in
            let port = try #require(client.port)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        try await RawConnection.run(port: port) { connection in
                            try await connection.send(
                                "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf")
                            try await eventually("all hold their share") { budget.usage.used >= 4 * 16_384 }
                        }
                    }
                }
                try await group.waitForAll()
            }
            // The stalled ones hold four times 16 KiB together; a fifth sender of the same address has what is left.
            try await eventually("the bytes are given back") { budget.usage.used == 0 }
            let answer = try await client.execute(
                uri: "/sum", method: .post, body: ByteBuffer(repeating: 1, count: 70_000))
            #expect(answer.text == "70000 70000 true")
        }
        #expect(budget.usage == (0, 0))
    }

    @Test func aSlowBodyIsRefusedAtTheDeadline() async throws {
        let budget = ByteBudget()
        let reader = BodyReader(limit: 1 << 20, budget: budget, senders: .anyone, deadline: .milliseconds(200))
        let server = TestServer()
        try await server.test(.live, routes: Self.routes(reader)) { client in
            try await RawConnection.run(port: try #require(client.port)) { connection in
                try await connection.send("POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
                try await eventually("the request is logged") {
                    // The server may just have closed the connection.
                    try? await connection.send("a")
                    return !server.requestLines.isEmpty
                }
            }
        }
        #expect(server.requestLines.map { $0["status"] } == ["504"])
        #expect(budget.usage == (0, 0))
    }
}

extension Sequence where Self: Sendable, Element: Sendable {
    /// The results of `transform`, one after the other.
    fileprivate func asyncMap<T>(_ transform: (Element) async throws -> T) async rethrows -> [T] {
        var results: [T] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
