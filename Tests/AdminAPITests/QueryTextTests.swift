import AsyncHTTPClient
import Domain
import Foundation
import HTTPSupport
import NIOCore
import NIOHTTP1
import Postgres
import TestSupport
import Testing

@testable import AdminAPI

/// Query strings and forms as browsers and libraries write them, asked of the program itself.
@Suite(.timeLimit(.minutes(30))) struct QueryTextTests {
    private struct Client: Sendable {
        let port: Int
        let token: String

        func send(
            _ path: String, form: String? = nil, accept: String = "application/json"
        ) async throws -> (status: Int, json: JSON?, body: String, link: String?) {
            var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
            request.headers.add(name: "Authorization", value: "Bearer \(token)")
            request.headers.add(name: "Accept", value: accept)
            if let form {
                request.method = .POST
                request.headers.add(name: "Content-Type", value: "application/x-www-form-urlencoded")
                request.body = .bytes(ByteBuffer(string: form))
            }
            let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
            let body = String(buffer: try await response.body.collect(upTo: 1 << 20))
            return (
                Int(response.status.code), JSON(parsing: Array(body.utf8)), body, response.headers.first(name: "Link")
            )
        }

        /// Expects an answer with the rows of these ids.
        func expect(_ ids: [Int64], at path: String, line: SourceLocation = #_sourceLocation) async throws {
            let answer = try await send(path)
            let found = (answer.json?["data"]?.elements ?? []).compactMap { $0["id"]?.wholeNumber }.sorted()
            #expect(answer.status == 200 && found == ids, "\(path): \(answer.body.prefix(400))", sourceLocation: line)
        }
    }

    private static let seed: Query = """
        WITH named AS (UPDATE users SET name = 'Ada Lovelace', email = 'ada+test@example.com' WHERE id = 2)
        INSERT INTO api_logs (id, user_id, model, input_tokens, output_tokens, total_cost, response_time_ms, status,
                              error_message, created_at)
        VALUES (101, 1, 'say hi', 1, 1, 1, 1, 'error', 'too many tokens', '2026-11-25 20:59:59'),
               (102, 1, 'c++', 1, 1, 1, 1, 'error', '1+1 failed', '2026-11-25 21:00:00'),
               (103, 1, 'say+hi', 1, 1, 1, 1, 'success', NULL, '2026-11-26 10:00:00')
        """

    private func asking(
        as user: Int64, _ body: @escaping @Sendable (Client) async throws -> Void
    ) async throws {
        try await LiveAdmin.with(seed: Self.seed) { admin in
            try await body(Client(port: admin.port, token: try await admin.token(of: user)))
        }
    }

    @Test func aPlusIsASpaceOnEveryRoute() async throws {
        try await asking(as: 1) { client in
            for path in ["/api/v1/logs", "/api/usage/logs"] {
                try await client.expect([101], at: "\(path)?model=say+hi")
                try await client.expect([101], at: "\(path)?model=say%20hi")
                try await client.expect([103], at: "\(path)?model=say%2Bhi")
                try await client.expect([102], at: "\(path)?model=c%2B%2B")
            }
            try await client.expect([101, 102], at: "/api/v1/logs?model=say+hi&model=c%2b%2b")
            try await client.expect([101], at: "/api/v1/logs?search=many+tokens")
            try await client.expect([102], at: "/api/v1/logs?search=1%2B1")
            let chart = try await client.send(
                "/api/v1/analytics/breakdown?model=say+hi&from=2026-11-25&to=2026-11-27")
            #expect(chart.json?["total"]?["requests"] == 1, "\(chart.body)")
        }
        try await asking(as: LiveAdmin.administrator) { client in
            try await client.expect([2], at: "/api/v1/admin/users?search=Ada+Love")
            try await client.expect([2], at: "/api/v1/admin/users?search=ada%2Btest")
            try await client.expect([], at: "/api/v1/admin/users?search=ada+test")
        }
    }

    /// `+03:00` written as it stands arrives as ` 03:00`.
    @Test(arguments: [
        "2026-11-26T00:00:00+03:00", "2026-11-26T00:00:00%2B03:00", "2026-11-26+00:00:00+03:00",
        "2026-11-26%2000:00:00%2B03:00", "2026-11-26T00:00:00.000+03:00", "2026-11-25T21:00:00Z",
        "2026-11-25+21:00:00", "2026-11-25T21:00", "2026-11-25T21:00:00-00:00", "2026-11-25T17:00:00-04:00",
    ]) func anOffsetIsUnderstoodHoweverItIsWritten(from: String) async throws {
        try await asking(as: 1) { client in
            try await client.expect([102, 103], at: "/api/v1/logs?from=\(from)&to=2026-11-27")
            try await client.expect([101], at: "/api/v1/logs?from=2026-11-20&to=\(from)")
            let summary = try await client.send("/api/v1/analytics/summary?from=\(from)&to=2026-11-27")
            #expect(summary.json?["from"] == "2026-11-25T21:00:00.000Z", "\(summary.body)")
        }
    }

    @Test func timesWithoutAnOffsetAreOfTheZone() async throws {
        try await asking(as: 1) { client in
            for zone in ["Europe/Istanbul", "Etc/GMT-3"] {
                try await client.expect(
                    [102, 103], at: "/api/v1/logs?from=2026-11-26+00:00:00&to=2026-11-27&timezone=\(zone)")
            }
            // A name with a plus, written as it stands and as it should.
            for zone in ["Etc/GMT+3", "Etc/GMT%2B3"] {
                let answer = try await client.send("/api/v1/analytics/summary?from=2026-11-26&timezone=\(zone)")
                #expect(answer.json?["timezone"] == "Etc/GMT+3", "\(answer.body)")
                #expect(answer.json?["from"] == "2026-11-26T03:00:00.000Z")
            }
            // On 2026-10-25 Berlin's clocks show 02:30 twice: the first one is meant.
            let twice = try await client.send(
                "/api/v1/analytics/summary?from=2026-10-25T02:30&to=2026-10-26&timezone=Europe/Berlin")
            #expect(twice.json?["from"] == "2026-10-25T00:30:00.000Z", "\(twice.body)")
        }
    }

    @Test func anInvalidTimeIsRefused() async throws {
        try await asking(as: 1) { client in
            for from in [
                "2026-11-26T00:00:00+3", "2026-11-26T00:00:00Z+03:00", "+", "2026-11-26T25:00", "26+Nov", "2026-11-26T",
            ] {
                let answer = try await client.send("/api/v1/logs?from=\(from)")
                #expect(answer.status == 422 && answer.json?["errors"]?["from"] != nil, "\(from): \(answer.body)")
            }
        }
    }

    @Test func anImpossibleValueIsReported() async throws {
        try await asking(as: 1) { client in
            for (query, field) in [
                ("model=%FF", "model"), ("model=a&model=%C4", "model"), ("model[]=say+hi", "model[]"), ("=1", ""),
                ("mo+del=x", "mo del"), ("filter%5B%5D=1", "filter[]"), ("limit=1&limit=2", "limit"),
            ] {
                let answer = try await client.send("/api/v1/logs?\(query)")
                #expect(answer.status == 422, "\(query): \(answer.body)")
                #expect(answer.json?["errors"]?.members?.map(\.key) == [field], "\(query): \(answer.body)")
            }
            for query in ["model[]=a", "model[0]=a", "model%5Bx%5D=a", "model=%FF"] {
                let answer = try await client.send("/api/usage/logs?\(query)")
                #expect(answer.status == 422 && answer.json?["errors"]?["model"] != nil, "\(query): \(answer.body)")
            }
            // As PHP names it, and what nobody declared, which Laravel ignores.
            try await client.expect([103], at: "/api/usage/logs?date+from=2026-11-26")
            try await client.expect([103], at: "/api/usage/logs?date.from=2026-11-26&filter[]=1&=2&%FF=3")
            try await client.expect([101, 102], at: "/api/usage/logs?model=c%2B%2B&model=say+hi")
        }
    }

    @Test func aFormIsReadAsAQueryIs() async throws {
        try await asking(as: 1) { client in
            let changed = try await client.send("/api/settings/update", form: "name=Ada+%2B+Bob+100%&email=a%2Bb@c.de")
            #expect(changed.json?["user"]?["name"] == "Ada + Bob 100%", "\(changed.body)")
            #expect(changed.json?["user"]?["email"] == "a+b@c.de")
            let list = try await client.send("/api/settings/update", form: "name[]=Ada&name[]=Bob")
            #expect(list.json?["errors"]?["name"] == ["The name field must be a string."], "\(list.body)")
            let last = try await client.send("/api/settings/update", form: "name[]=Ada&name=Bob&email=a%2Bb@c.de")
            #expect(last.json?["user"]?["name"] == "Bob", "\(last.body)")
        }
    }

    @Test func aLinkLeadsToTheSameQuestion() async throws {
        try await asking(as: 1) { client in
            let question =
                "/api/v1/analytics/breakdown?group_by=model&limit=1&from=2026-11-25T00:00:00+00:00&status=error"
            let page = try await client.send(question, accept: "text/csv")
            let link = try #require(page.link?.firstMatch(of: /^<(.+)>; rel="next"$/).map { String($0.1) })
            let next = try await client.send(link, accept: "text/csv")
            #expect(next.status == 200 && next.link == nil, "\(link): \(next.body)")
            let models = [page, next].map { $0.body.split(whereSeparator: \.isNewline)[1].prefix { $0 != "," } }
            #expect(Set(models) == ["say hi", "c++"], "\(models)")
        }
    }
}
