package import Domain

/// One event that the load sends, and what must become of it.
package struct LoadEvent: Sendable {
    /// What must become of an event once it is acknowledged.
    package enum Fate: Sendable, Hashable {
        /// One row of this user's, which adds so much to the counters.
        case stored(userID: Int64, tokens: Int64, requests: Int64)
        /// One entry in quarantine.
        case quarantined(QuarantineReason)
    }

    /// The model it says was asked for: a name of its own, so that it is found whatever key it was stored under.
    let name: String
    let json: String
    let fate: Fate
}

/// A body as the load posts it, the same bytes at every attempt.
struct LoadBody: Sendable {
    /// Where it goes to, and how it is answered.
    enum Form: Sendable, Hashable {
        case array
        /// One documented event, named by the header `Idempotency-Key`.
        case documented(idempotencyKey: String)
    }

    let form: Form
    /// In the order of the body; the twin of an event is the same event again.
    let events: [LoadEvent]

    var text: String {
        switch form {
        case .array: "[\(events.map(\.json).joined(separator: ","))]"
        case .documented: events.map(\.json).joined()
        }
    }
}

/// A customer whom the load makes calls for.
struct LoadUser: Sendable {
    let id: Int64
    let key: String

    /// The members of an event's `metadata` that name the caller, in each form that `docs/litellm.md` knows.
    func identity(using generator: inout SplitMix64) -> String {
        let forms = [
            #""user_api_key_hash":"\#(KeyHash(of: key).hex)","user_api_key_user_id":null"#,
            #""user_api_key_hash":"\#(key)","user_api_key_user_id":null"#,
            #""user_api_key_hash":null,"user_api_key_user_id":"\#(id)""#,
            """
            "user_api_key_hash":"\(KeyHash(of: key).hex)","user_api_key_user_id":"\(id)",\
            "user_api_key_auth_metadata":{"laravel_user_id":\(id)}
            """,
        ]
        return forms[Int.random(in: forms.indices, using: &generator)]
    }
}
