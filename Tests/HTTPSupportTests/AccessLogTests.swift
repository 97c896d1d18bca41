import Bootstrap
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import InMemoryLogging
import Logging
import Testing

@Suite(.timeLimit(.minutes(30))) struct AccessLogTests {
    @Test func aRequestIsOneLineWithoutItsQuery() async throws {
        let server = TestServer()
        try await server.test(
            .live,
            routes: [
                HTTPRoute(.post, "/api/users/{id}") { _, context in
                    context.log["stored"] = "3"
                    return HTTPResponse.Status.created
                }
            ]
        ) { client in
            _ = try await client.execute(
                uri: "/api/users/7?token=s3cret", method: .post, body: ByteBuffer(string: "four"))
        }
        let line = try #require(server.requestLines.first)
        #expect(server.requestLines.count == 1)
        #expect(line["method"] == "POST" && line["path"] == "/api/users/7" && line["status"] == "201")
        #expect(line["bytes_in"] == "4" && line["stored"] == "3")
        #expect(["127.0.0.1", "::1"].contains(line["client"]?.description))
        #expect((line["duration_ms"]?.description).flatMap(Double.init) != nil)
        #expect(!server.logs.entries.contains { "\($0)".contains("s3cret") })
    }

    @Test func failuresAreLinesWithTheirStatus() async throws {
        let server = TestServer()
        let gone = HTTPRoute(.get, "/fail") { _, _ -> String in throw HTTPError(.gone) }
        try await server.test(routes: [gone]) { client in
            _ = try await client.execute(uri: "/fail", method: .get)
            _ = try await client.execute(uri: "/nope", method: .get)
        }
        #expect(server.requestLines.map { $0["status"] } == ["410", "404"])
    }

    @Test func aHandlerCannotOverwriteTheFieldsOfTheRequest() async throws {
        let server = TestServer()
        let route = HTTPRoute(.get, "/x") { _, context in
            context.log["status"] = "999"
            return "x"
        }
        try await server.test(routes: [route]) { _ = try await $0.execute(uri: "/x", method: .get) }
        #expect(server.requestLines.map { $0["status"] } == ["200"])
    }

    @Test func requestsAreCountedAndTimedByRouteUnknownOnesUnderOneLabel() async throws {
        let server = TestServer()
        try await server.test(routes: [HTTPRoute(.get, "/users/{id}") { _, _ in "x" }]) { client in
            for path in ["/users/1", "/users/2", "/nope1", "/nope2"] {
                _ = try await client.execute(uri: path, method: .get)
            }
            let brew = try #require(HTTPRequest.Method("BREW"))
            _ = try await client.execute(uri: "/users/1", method: brew)
        }
        let metrics = server.metrics.render()
        #expect(metrics.contains("http_requests_total{method=\"GET\",route=\"/users/{id}\",status=\"200\"} 2\n"))
        #expect(metrics.contains("http_requests_total{method=\"GET\",route=\"NotFound\",status=\"404\"} 2\n"))
        #expect(metrics.contains("http_requests_total{method=\"other\",route=\"NotFound\",status=\"404\"} 1\n"))
        #expect(metrics.contains("http_request_duration_seconds_count{method=\"GET\",route=\"/users/{id}\"} 2\n"))
    }
}
