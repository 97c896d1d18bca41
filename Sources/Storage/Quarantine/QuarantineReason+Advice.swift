package import Domain

extension QuarantineReason {
    /// One sentence for the operator.
    package var explanation: String {
        switch self {
        case .unreadable: "This is no JSON that can be read."
        case .missingIdentity: "The event names neither a key nor a user."
        case .unknownKey: "No user holds this key, or held it when the call was made."
        case .unknownUser: "No user has this id."
        case .identityConflict: "The key, laravel_user_id and user id belong to different users."
        case .denied: "The proxy refused the caller."
        case .implausibleTime: "The start is no time, older than the retention, or more than 24 hours ahead."
        case .implausibleCost: "The cost is negative, not finite, or too large."
        case .userLocked: "An open transaction holds the user's row; the event is stored when it ends."
        case .laravelUnavailable: "Laravel's tables refuse the row as they are now; it is stored when they take it."
        case .unstorable: "PostgreSQL refuses the values of this event."
        case .conflict: "Another event of this identity was stored before, with other tokens, cost or status."
        }
    }

    /// What the operator can do, where `findings` are those about Laravel's database.
    ///
    /// While rows are hidden or refused a verdict on an event may be wrong: nothing is discarded for it then.
    package func remedy(amid findings: [LaravelFinding]) -> String {
        canBecomeRow && findings.contains(where: \.makesVerdictsDoubtful) ? Self.firstTheDatabase : remedy
    }

    /// What comes before every advice to discard.
    static let firstTheDatabase =
        "Laravel's database hides or refuses rows: see the laravel findings of 'codexflow doctor' and correct that first. Discard "
        + "nothing before; what can become a row then does so by itself."

    /// What the operator can do.
    package var remedy: String {
        switch self {
        case .unreadable, .missingIdentity:
            "Find out what posts this (the webhook key, the proxy's callback), have it send the event anew, and discard."
        case .unknownKey:
            "Nothing, if the user is about to get the key: it becomes a row within seconds. Else discard."
        case .unknownUser:
            "Nothing, if the user is about to appear: it becomes a row within seconds. Else correct custom_auth, or discard."
        case .identityConflict:
            "Correct the key's holder in users, or what custom_auth returns; then replay, or discard."
        case .denied:
            "Nothing: a stranger's call, billed to nobody. Discard; if it was a customer's, look at custom_auth."
        case .implausibleTime:
            "Correct the proxy's clock, or METERING_RETENTION_DAYS, and have the event sent anew; then discard."
        case .implausibleCost:
            "Correct the model's price in the proxy and have the event sent anew with it; then discard."
        case .userLocked:
            "Nothing: it becomes a row when the transaction ends. If it does not end, look for it in pg_stat_activity."
        case .laravelUnavailable:
            "See what 'codexflow schema' finds and correct Laravel's tables: it becomes a row within seconds."
        case .unstorable:
            "Report it: its facts could not be kept. Discard when the call was billed by hand."
        case .conflict:
            "Compare it with the stored row (show): correct api_logs by hand if this one is right; then discard."
        }
    }

    /// Whether an event put aside for this reason can become a row, by itself or by an operator's replay.
    package var canBecomeRow: Bool {
        switch self {
        case .unknownKey, .unknownUser, .userLocked, .laravelUnavailable, .identityConflict: true
        case .unreadable, .missingIdentity, .denied, .implausibleTime, .implausibleCost, .unstorable, .conflict: false
        }
    }
}
