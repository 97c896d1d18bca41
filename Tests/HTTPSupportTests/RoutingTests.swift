import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Testing

@Suite(.timeLimit(.minutes(30))) struct RoutingTests {
    private func response(
        _ method: HTTPRequest.Method, _ path: String, headers: HTTPFields = [:]
    ) async throws -> TestResponse {
        let routes = [
            HTTPRoute(.post, "/api/webhook/litellm") { _, _ in "posted" },
            HTTPRoute(.get, "/api/users/{id}") { _, context in try context.parameters.require("id") },
        ]
        return try await TestServer().test(routes: routes) { client in
            try await client.execute(uri: path, method: method, headers: headers)
        }
    }

    @Test func anUnknownPathIs404InLaravelsWords() async throws {
        let response = try await response(.get, "/api/nope?token=x")
        #expect(response.status == .notFound)
        #expect(response.text == #"{"message":"The route api/nope could not be found."}"#)
    }

    @Test(arguments: [HTTPRequest.Method.get, .put, .delete, .patch])
    func anotherMethodIs405WithAllow(method: HTTPRequest.Method) async throws {
        let response = try await response(method, "/api/webhook/litellm")
        #expect(response.status == .methodNotAllowed)
        #expect(response.headers[.allow] == "POST")
        let message =
            "The \(method.rawValue) method is not supported for route api/webhook/litellm. Supported methods: POST."
        #expect(response.text == #"{"message":"\#(message)"}"#)
    }

    @Test func aRouteWithAParameterKnowsItsMethods() async throws {
        let response = try await response(.post, "/api/users/7")
        #expect(response.status == .methodNotAllowed)
        #expect(response.headers[.allow] == "GET, HEAD")
        #expect(response.text.contains("for route api/users/7."))
    }

    @Test func headIsAnsweredWhereGetIs() async throws {
        let response = try await response(.head, "/api/users/7")
        #expect(response.status == .ok)
        #expect(response.text.isEmpty)
    }

    @Test func aTrailingSlashChangesNothing() async throws {
        #expect(try await response(.post, "/api/webhook/litellm/").text == "posted")
    }

    @Test func optionsNamesTheMethods() async throws {
        let response = try await response(.options, "/api/webhook/litellm")
        #expect(response.status == .ok)
        #expect(response.headers[.allow] == "POST")
        #expect(response.text.isEmpty)
    }

    @Test func aPreflightIsAllowedWhatItAsksFor() async throws {
        let response = try await response(
            .options, "/api/webhook/litellm",
            headers: [
                .origin: "https://x.example", .accessControlRequestMethod: "POST",
                .accessControlRequestHeaders: "content-type,x-api-key",
            ])
        #expect(response.status == .noContent)
        #expect(response.headers[.accessControlAllowOrigin] == "*")
        #expect(response.headers[.accessControlAllowMethods] == "POST")
        #expect(response.headers[.accessControlAllowHeaders] == "content-type,x-api-key")
        #expect(response.headers[.accessControlMaxAge] == "0")
        #expect(response.headers[.vary] == "Access-Control-Request-Method, Access-Control-Request-Headers")
        #expect(response.headers[.cacheControl] == "no-cache, private")
    }

    @Test(arguments: ["/api/webhook/litellm", "/api/nope"])
    func apiAnswersAndErrorsHaveLaravelsHeaders(path: String) async throws {
        let headers = try await response(.post, path).headers
        #expect(headers[.cacheControl] == "no-cache, private")
        #expect(headers[.accessControlAllowOrigin] == "*")
        #expect(headers[.xContentTypeOptions] == "nosniff")
    }

    @Test func otherAnswersHaveNoAPIHeaders() async throws {
        let headers = try await response(.get, "/health/live").headers
        #expect(headers[.accessControlAllowOrigin] == nil)
        #expect(headers[.xContentTypeOptions] == "nosniff")
    }
}
