import Bootstrap
import Foundation
import HTTPSupport
import HTTPTypes
import HummingbirdTesting
import NIOCore
import NIOSSL
import TestSupport
import Testing

/// A route of a lane and a route of the router are the same to a client, byte by byte.
@Suite(.timeLimit(.minutes(30))) struct LaneTests {
    private static let post = LaneBench.post()
    private static let dates = {
        let dates = DateFormatter()
        dates.locale = Locale(identifier: "en_US_POSIX")
        dates.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        dates.timeZone = .gmt
        return dates
    }()

    /// The header lines of an answer, sorted, without those that differ in each answer.
    private func headerLines(_ answer: String) -> [String] {
        let head = answer.components(separatedBy: "\r\n\r\n")[0].components(separatedBy: "\r\n")
        return head.filter { !$0.hasPrefix("Date: ") && !$0.hasPrefix("X-Request-Id: ") }.sorted()
    }

    @Test(arguments: [LaneBench.post(), LaneBench.post(key: nil), LaneBench.post(headers: ["Content-Length: 2000000"])])
    func anAnswerHasTheSameHeadersAndBody(request: String) async throws {
        var answers: [String] = []
        for kind in RouteKind.allCases {
            answers.append(
                try await LaneBench(kind).connected { connection in
                    try await connection.send(request)
                    return try await connection.receive(until: request == Self.post ? "2 195" : "}")
                })
        }
        #expect(headerLines(answers[0]) == headerLines(answers[1]))
        let bodies = answers.map { $0.components(separatedBy: "\r\n\r\n").last }
        #expect(bodies[0] == bodies[1])
        for answer in answers {
            #expect(answer.contains(/\r\nX-Request-Id: [0-9a-f]{17,32}\r\n/))
            let date = try #require(answer.firstMatch(of: /\r\nDate: ([^\r]+)\r\n/)?.1)
            let parsed = try #require(Self.dates.date(from: String(date)))
            #expect(abs(parsed.timeIntervalSinceNow) < 60, "\(date)")
        }
    }

    @Test(arguments: RouteKind.allCases)
    func requestsThatFollowEachOtherAreAnsweredInOrder(kind: RouteKind) async throws {
        let bench = LaneBench(kind)
        bench.gate.close()
        let text = try await bench.connected { connection in
            try await connection.send(
                Self.post + LaneBench.health + LaneBench.post("c") + LaneBench.post(to: "/nope") + LaneBench.post("d"))
            try await eventually("the first request waits") { bench.gate.waiting == 1 }
            bench.gate.open()
            return try await connection.receive(until: "1 100")
        }
        #expect(LaneBench.statuses(text) == ["200", "200", "200", "404", "200"])
        let bodies = ["2 195", #"{"status":"ok"}"#, "1 99", "could not be found", "1 100"]
        let places = bodies.compactMap { text.range(of: $0)?.lowerBound }
        #expect(places.count == bodies.count && places == places.sorted())
    }

    @Test(arguments: RouteKind.allCases)
    func aBodyOfChunksArrivesWhole(kind: RouteKind) async throws {
        let text = try await LaneBench(kind).connected { connection in
            let chunks = (0..<20).map { _ in "3e8\r\n\(String(repeating: "a", count: 1000))\r\n" }
            let headers = ["Transfer-Encoding: chunked"]
            for piece in [LaneBench.post("", headers: headers)] + chunks { try await connection.send(piece) }
            try await connection.send("0\r\nTrailer: x\r\n\r\n" + LaneBench.post("", headers: headers) + "0\r\n\r\n")
            return try await connection.receive(until: "0 0")
        }
        #expect(text.contains("20000 \(20_000 * 97)"))
        #expect(LaneBench.statuses(text) == ["200", "200"])
    }

    @Test(arguments: RouteKind.allCases, [0, 1, 63, 16_384, 16_385, 300_000, 1 << 20])
    func aBodyArrivesWholeAndItsBytesAreReleased(kind: RouteKind, length: Int) async throws {
        let bench = LaneBench(kind)
        let text = try await bench.connected { connection in
            try await connection.send(LaneBench.post(String(repeating: "b", count: length)))
            return try await connection.receive(until: "\(length) \(98 * length)")
        }
        #expect(LaneBench.statuses(text) == ["200"])
        #expect(bench.budget.usage == (0, 0))
        try await eventually("the line is written") { bench.requestLines.map { $0["bytes_in"] } == ["\(length)"] }
    }

    @Test(arguments: RouteKind.allCases)
    func pathsAreUnderstoodAsTheRouterDoes(kind: RouteKind) async throws {
        let paths = [
            "/api/sum?x=1": "200", "/api/sum/": "200", "//api//sum": "200", "http://h/api/sum": "200",
            "/api/su%6D": "404", "/API/sum": "404", "/api/sum/x": "404", "/api": "404",
        ]
        let bench = LaneBench(kind)
        let answered = try await bench.run { port in
            var answered: [String: String] = [:]
            for path in paths.keys {
                answered[path] = try await RawConnection.run(port: port) { connection in
                    try await connection.send(LaneBench.post(to: path))
                    return try await connection.receive(until: "\r\n\r\n")
                }
            }
            return answered
        }
        for (path, status) in paths {
            let answer = try #require(answered[path])
            #expect(LaneBench.statuses(answer) == [status], "\(path)")
            #expect(answer.contains("Access-Control-Allow-Origin") == path.contains(/^(http:\/\/h)?\/api/), "\(path)")
        }
        try await eventually("the lines are written") {
            bench.requestLines.contains { $0["path"] == "//api//sum" && $0["status"] == "200" }
        }
    }

    @Test(arguments: RouteKind.allCases)
    func otherMethodsAreAnsweredByTheRouter(kind: RouteKind) async throws {
        let text = try await LaneBench(kind).connected { connection in
            for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
                try await connection.send("\(method) /api/sum HTTP/1.1\r\nHost: x\r\n\r\n")
            }
            return try await connection.receive(until: "The DELETE method is not supported")
        }
        #expect(LaneBench.statuses(text) == ["405", "405", "200", "405"])
        #expect(text.matches(of: /\r\nAllow: POST\r\n/).count == 4)
    }

    @Test(arguments: RouteKind.allCases)
    func aConnectionEndsAfterTheAnswerIfTheClientWantsIt(kind: RouteKind) async throws {
        let text = try await LaneBench(kind).connected { connection in
            try await connection.send(LaneBench.post(headers: ["Connection: close"]) + Self.post)
            return try await connection.receiveAll()
        }
        #expect(LaneBench.statuses(text) == ["200"] && text.hasSuffix("2 195"))
    }

    @Test(arguments: RouteKind.allCases)
    func aClientThatSaysNoMoreGetsItsAnswer(kind: RouteKind) async throws {
        let bench = LaneBench(kind)
        bench.gate.close()
        let text = try await bench.connected { connection in
            try await connection.send(Self.post)
            try await eventually("the request waits") { bench.gate.waiting == 1 }
            try await connection.endOutput()
            bench.gate.open()
            return try await connection.receiveAll()
        }
        #expect(LaneBench.statuses(text) == ["200"] && text.hasSuffix("2 195"))
    }

    private static let junk = [
        "JUNK\r\n\r\n", LaneBench.post("zz\r\n", headers: ["Transfer-Encoding: chunked"]),
    ]

    @Test(arguments: RouteKind.allCases, junk)
    func bytesThatAreNotHTTPEndTheConnectionAfterTheAnswersBefore(kind: RouteKind, junk: String) async throws {
        let bench = LaneBench(kind)
        bench.gate.close()
        let text = try await bench.connected { connection in
            try await connection.send(Self.post + junk)
            try await eventually("the request waits") { bench.gate.waiting == 1 }
            bench.gate.open()
            return try await connection.receiveAll()
        }
        #expect(LaneBench.statuses(text) == ["200", "400"])
        #expect(text.hasSuffix("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func aRequestIsOneLineWithItsFacts(kind: RouteKind) async throws {
        let bench = LaneBench(kind)
        _ = try await bench.connected { connection in
            try await connection.send(LaneBench.post("abcd", to: "/api/sum?token=s3cret") + LaneBench.post(key: "x"))
            return try await connection.receive(until: "Invalid webhook key")
        }
        try await eventually("the lines are written") { bench.requestLines.count == 2 }
        let common = ["method": "POST", "path": "/api/sum"]
        #expect(
            bench.requestLines == [
                common.merging(
                    ["status": "200", "bytes_in": "4", "a_fact": "1", "words": "a b"], uniquingKeysWith: { $1 }),
                common.merging(["status": "401", "bytes_in": "2"], uniquingKeysWith: { $1 }),
            ])
    }

    @Test func aLineIsAsTheLogWritesIt() async throws {
        let bench = LaneBench(.lane)
        _ = try await bench.connected { connection in
            try await connection.send(Self.post)
            return try await connection.receive(until: "2 195")
        }
        try await eventually("the line is written") { !bench.writtenLines.isEmpty }
        let line = try #require(bench.writtenLines.first)
        let words = [
            #"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info test: request a_fact=1 bytes_in=2"#,
            #"client=[0-9a-f:.]+ duration_ms=[\d.]+ hb\.request\.id=[0-9a-f]+ method=POST path=/api/sum"#,
            #"status=200 words="a b""#,
        ]
        let form = try Regex(words.joined(separator: " "))
        #expect(line.wholeMatch(of: form) != nil, "\(line)")
    }

    @Test(arguments: RouteKind.allCases)
    func aRouteIsServedOverTLS(kind: RouteKind) async throws {
        let certificate = try NIOSSLCertificate(bytes: Array(TestCertificate.certificate.utf8), format: .pem)
        let key = try NIOSSLPrivateKey(bytes: Array(TestCertificate.key.utf8), format: .pem)
        var bench = LaneBench(kind)
        bench.server.settings.tls = .makeServerConfiguration(
            certificateChain: [.certificate(certificate)], privateKey: .privateKey(key))
        let statuses = try await bench.server.test(.ahc(.https), routes: [bench.route]) { client in
            var statuses: [Int] = []
            for key in [LaneBench.key, "x"] {
                let answer = try await client.execute(
                    uri: "/api/sum", method: .post, headers: [.apiKey: key],
                    body: ByteBuffer(repeating: 97, count: 100_000))
                statuses.append(answer.status.code)
            }
            return statuses
        }
        #expect(statuses == [200, 401])
    }
}
