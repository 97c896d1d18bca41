import Domain
import HTTPSupport
import HTTPTypes

/// A route that is served beside the declared ones: health and metrics of each service, and what `webhook-api` serves.
struct PlainOperation: Sendable {
    struct Response: Sendable {
        let status: Int
        let description: String
        var type = "application/json"
        let schema: JSON

        init(_ status: Int, _ description: String, type: String = "application/json", _ schema: JSON) {
            (self.status, self.description, self.type, self.schema) = (status, description, type, schema)
        }
    }

    let method: HTTPRequest.Method
    let route: String
    let summary: String
    /// Whether LiteLLM's key is asked for; nobody's is where it is not.
    var needsKey = false
    /// Headers that mean something, and what.
    var headers: KeyValuePairs<String, String> = [:]
    /// The schema of each type of body it takes.
    var bodies: KeyValuePairs<String, JSON> = [:]
    let responses: [Response]

    /// Its entry in the document.
    var path: JSON.Member {
        var members: [JSON.Member] = [
            .init("summary", .string(summary)), .init("security", needsKey ? [["webhook": []]] : []),
            .init(
                "parameters",
                .array(
                    headers.map { name, note in
                        [
                            "name": .string(name), "in": "header", "required": false, "description": .string(note),
                            "schema": Schema.string,
                        ]
                    })),
        ]
        if !bodies.isEmpty {
            let content = bodies.map { JSON.Member($0.key, ["schema": $0.value]) }
            members.append(.init("requestBody", ["required": true, "content": .object(content)]))
        }
        members.append(.init("responses", .object(responses.map(\.json))))
        return .init(route, .object([.init(method.rawValue.lowercased(), .object(members))]))
    }

    static let all: [PlainOperation] =
        [
            PlainOperation(
                method: .get, route: "/health/live", summary: "Whether the process is alive; of each service.",
                responses: [Response(200, "It is.", Schema.healthy)]),
            PlainOperation(
                method: .get, route: "/health/ready", summary: "Whether it can do its work now; of each service.",
                responses: [
                    Response(200, "It can; `findings` are what should be known of Laravel's database.", Schema.ready),
                    Response(
                        503, "It cannot, and why.",
                        Schema.object([
                            "reasons": Schema.list(Schema.string), "status": Schema.choice(["unavailable"]),
                        ])),
                ]),
            PlainOperation(
                method: .get, route: "/metrics", summary: "Every metric, as Prometheus reads it; of each service.",
                responses: [Response(200, "In the text format 0.0.4.", type: "text/plain", Schema.string)]),
        ] + webhook
}

extension PlainOperation.Response {
    fileprivate var json: JSON.Member {
        .init("\(status)", ["description": .string(description), "content": [type: ["schema": schema]]])
    }
}

extension Schema {
    fileprivate static let healthy = object(["status": choice(["ok"])])

    fileprivate static let ready = closedBody(["status": choice(["ok"])], optional: ["findings": list(string)])
}
