import Bootstrap
import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import InMemoryLogging
import Logging
import Testing

@Suite(.timeLimit(.minutes(30))) struct ErrorMiddlewareTests {
    private struct Unexpected: Error {
        let detail = "password=s3cret"
    }

    private func response(
        to error: any Error, shape: ErrorShape = .laravel, on server: TestServer = TestServer()
    ) async throws -> TestResponse {
        var server = server
        server.errorShape = shape
        let route = HTTPRoute(.get, "/fail") { _, _ -> String in throw error }
        return try await server.test(routes: [route]) { client in
            try await client.execute(uri: "/fail", method: .get)
        }
    }

    @Test(arguments: [
        (AppError.Code.invalid, 400), (.unauthorized, 401), (.forbidden, 403), (.notFound, 404),
        (.methodNotAllowed, 405),
        (.conflict, 409), (.tooLarge, 413), (.tooManyRequests, 429), (.internal, 500), (.unavailable, 503),
        (.timeout, 504),
    ])
    func eachCodeHasItsStatusAndMessage(code: AppError.Code, status: Int) async throws {
        let response = try await response(to: AppError(code, "Our words."))
        #expect(response.status.code == status)
        #expect(response.text == #"{"message":"Our words."}"#)
        #expect(response.headers[.contentType] == "application/json")
        #expect(response.headers[.retryAfter] == nil)
    }

    @Test func everyCodeHasAStatusOfItsOwn() {
        #expect(Set(AppError.Code.allCases.map(\.status.code)).count == AppError.Code.allCases.count)
    }

    @Test func aTimeToWaitBecomesRetryAfter() async throws {
        let response = try await response(to: AppError(.unavailable, "Busy.", retryAfter: 7))
        #expect(response.headers[.retryAfter] == "7")
    }

    @Test func anUnexpectedErrorIsOnlyInTheLog() async throws {
        let server = TestServer()
        let response = try await response(to: Unexpected(), on: server)
        #expect(response.status == .internalServerError)
        #expect(response.text == #"{"message":"Server Error"}"#)
        let entry = try #require(server.logs.entries.first { $0.level == .error })
        #expect(entry.metadata["error"]?.description.contains("Unexpected") == true)
        #expect(entry.metadata["hb.request.id"] != nil)
        #expect(server.metrics.render().contains("http_errors_total{code=\"internal\"} 1\n"))
    }

    @Test func aClientErrorIsNoErrorInTheLog() async throws {
        let server = TestServer()
        _ = try await response(to: AppError(.invalid, "No."), on: server)
        #expect(!server.logs.entries.contains { $0.level > .info })
        #expect(server.metrics.render().contains("http_errors_total{code=\"invalid\"} 1\n"))
    }

    @Test func hummingbirdErrorsKeepStatusHeadersAndMessage() async throws {
        let error = HTTPError(.gone, headers: [.allow: "BREW"], message: "Sold out.")
        let response = try await response(to: error)
        #expect(response.status == .gone)
        #expect(response.headers[.allow] == "BREW")
        #expect(response.text == #"{"message":"Sold out."}"#)
        #expect(try await self.response(to: HTTPError(.gone)).text == #"{"message":"Gone"}"#)
    }

    @Test func theWebhookShapeNamesTheError() async throws {
        let response = try await response(to: AppError(.unauthorized, "Invalid webhook key"), shape: .webhook)
        #expect(response.text == #"{"error":"Unauthorized","message":"Invalid webhook key"}"#)
    }

    @Test func aCancelledRequestIsATemporaryFailure() async throws {
        let response = try await response(to: CancellationError())
        #expect(response.status == .serviceUnavailable)
        #expect(response.headers[.retryAfter] == "1")
    }
}
