import Domain
import Foundation
import LiteLLM
import TestSupport
import Testing

/// Every captured body, against what Foundation reads in it.
@Suite(.timeLimit(.minutes(30))) struct FixtureTests {
    @Test func everyElementOfEveryCapturedBodyIsOneResultAsFoundationReadsIt() throws {
        let bodies = try Fixtures.litellm()
        #expect(bodies.count >= 46)
        // Foundation refuses half a surrogate pair; `CapturedEventTests` reads that body.
        for body in bodies where !body.name.hasPrefix("docshape") && body.name != "1.83.14/lone_surrogate_req" {
            let objects = try #require(try JSONSerialization.jsonObject(with: Data(body.bytes)) as? [[String: Any]])
            let parsed = EventParser.parse(body.bytes, arrival: captured)
            #expect(parsed.form == .events, "\(body.name)")
            try #require(parsed.results.count == objects.count, "\(body.name)")
            for (result, object) in zip(parsed.results, objects) {
                try expect(result, agreesWith: object, in: body.name)
            }
        }
    }

    private func expect(
        _ result: Result<UsageEvent, Rejection>, agreesWith object: [String: Any], in name: String
    ) throws {
        let event =
            switch result {
            case .success(let event): event
            case .failure(let rejection): try #require(rejection.event, "\(name)")
            }
        let metadata = try #require(object["metadata"] as? [String: Any])
        let start = try #require(object["startTime"] as? Double)
        let end = try #require(object["endTime"] as? Double)
        let group = object["model_group"] as? String ?? ""
        let model = object["model"] as? String ?? ""
        #expect(event.shape == .litellm && event.isIdempotent, "\(name)")
        #expect(event.inputTokens == object["prompt_tokens"] as? Int64, "\(name)")
        #expect(event.outputTokens == object["completion_tokens"] as? Int64, "\(name)")
        #expect(event.modelGroup == (group.isEmpty ? (model.isEmpty ? "unknown" : model) : group), "\(name)")
        let cost = try #require(event.cost.flatMap { Double($0.literal.text) }, "\(name)")
        #expect(abs(cost - (try #require(object["response_cost"] as? Double))) < 1e-15, "\(name)")
        #expect(abs(Double(event.occurredAt.microseconds) - start * 1e6) <= 1, "\(name)")
        #expect(abs(Double(try #require(event.durationMilliseconds)) - (end - start) * 1e3) <= 0.5001, "\(name)")
        #expect((event.status == .success) == (object["status"] as? String == "success"), "\(name)")
        #expect((event.errorMessage == nil) == (event.status == .success || isDenied(result)), "\(name)")
        #expect(event.provider == object["custom_llm_provider"] as? String, "\(name)")
        #expect(event.callType == object["call_type"] as? String, "\(name)")
        #expect(event.key.high >> 16 == UInt64(start * 1000), "\(name)")
        guard !isDenied(result) else { return }
        #expect(event.identity.presentedKey?.text == metadata["user_api_key_hash"] as? String, "\(name)")
        #expect(event.identity.userID == (metadata["user_api_key_user_id"] as? String).flatMap { Int64($0) }, "\(name)")
    }

    private func isDenied(_ result: Result<UsageEvent, Rejection>) -> Bool {
        guard case .failure(let rejection) = result else { return false }
        return rejection.reason == .denied
    }

    @Test func onlyTheUnknownCallersEventIsRejectedAndNoTwoEventsShareAKey() throws {
        let bodies = try Fixtures.litellm().filter { !$0.name.hasPrefix("docshape") }
        let results = bodies.flatMap { body in
            EventParser.parse(body.bytes, arrival: captured).results.map { (body.name, $0) }
        }
        let rejected = results.filter { (try? $0.1.get()) == nil }
        #expect(rejected.map(\.0) == ["1.109.1/auth_unknown_key"])
        let keys = results.compactMap { try? $0.1.get().key }
        #expect(Set(keys).count == keys.count)
    }

    @Test func theDocumentedShapeOfACustomLoggerIsOneEventWithAnIdempotencyKey() throws {
        for body in try Fixtures.litellm() where body.name.hasPrefix("docshape") {
            let parsed = EventParser.parse(body.bytes, arrival: captured)
            let event = try parsed.onlyEvent()
            #expect(parsed.form == .documented && parsed.rejections.isEmpty, "\(body.name)")
            #expect(event.shape == .documented && event.isIdempotent && event.key.isIdempotencyKey, "\(body.name)")
            #expect(event.occurredAt == captured.at, "\(body.name)")
        }
    }

    @Test func aGoldenBodyIsAnsweredInLaravelsStyleExactlyWhereItIsOneObjectOrNone() throws {
        let goldens = try Fixtures.webhookGoldens()
        #expect(goldens.count >= 100)
        // The record of the megabyte shows only its beginning.
        let others = [
            "262_webhook_invalid_json", "265_webhook_json_array_body", "278_webhook_1mb_messages",
            "284_webhook_form_encoded",
        ]
        for golden in goldens {
            let parsed = EventParser.parse(golden.body, arrival: captured)
            #expect(parsed.results.count == 1, "\(golden.name)")
            #expect((parsed.form == .documented) == !others.contains(golden.name), "\(golden.name)")
            let event = parsed.events.first ?? parsed.rejections.first?.event
            #expect(event?.identity.presentedKey?.text.contains(" ") != true, "\(golden.name)")
            guard golden.status == 201, !others.contains(golden.name) else { continue }
            let isKept = try parsed.onlyReason().map { $0 == .implausibleCost } ?? true
            #expect(isKept, "\(golden.name)")
        }
    }
}
