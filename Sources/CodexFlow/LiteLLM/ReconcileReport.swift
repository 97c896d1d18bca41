import Bootstrap
import Domain
import HTTPSupport
import Postgres
import Storage

/// What a reconciliation found, took, and left.
struct ReconcileReport: Sendable {
    let range: Range<Timestamp>
    /// Calls that a provider worked for and that LiteLLM's database has of the range.
    let calls: Int64
    let differences: [HourOfKey]
    /// How many of the missing calls got which verdict; `nil` where none were to be taken.
    let taken: [String: Int]?

    /// Compares, and where `takes` is set stores what is missing and compares again.
    init(_ reconciliation: Reconciliation, _ range: Range<Timestamp>, takes: Bool) async throws {
        self.range = range
        guard takes else {
            (calls, differences) = try await reconciliation.compare(range)
            taken = nil
            return
        }
        let writer = EventWriter(pool: reconciliation.pool, now: reconciliation.now)
        var counts: [String: Int] = [:]
        _ = try await reconciliation.compare(range) { items in
            for verdict in try await writer.write(items, lockedUsers: .quarantine).compactMap(\.self) {
                counts[verdict.word, default: 0] += 1
            }
        }
        taken = counts
        (calls, differences) = try await reconciliation.compare(range)
    }

    func print(asJSON: Bool) {
        if asJSON {
            var bytes: [UInt8] = []
            json.append(to: &bytes)
            return Terminal.print(json: String(decoding: bytes, as: UTF8.self))
        }
        QuarantineText.table(
            ["hour", "key", "LiteLLM calls", "calls here", "aside", "missing", "LiteLLM USD", "USD here"],
            differences.map { hour in
                [
                    hour.place.start.rfc3339, "\(hour.place.keyHash.prefix(8))…", "\(hour.litellm.calls)",
                    "\(hour.here.calls)", "\(hour.aside)", "\(hour.missing)", hour.litellm.cost.description,
                    hour.here.cost.description,
                ]
            })
        for (word, count) in (taken ?? [:]).sorted(by: { $0.key < $1.key }) { Terminal.print("\(word) \(count)") }
        let missing = differences.reduce(0) { $0 + $1.missing }
        Terminal.print(
            differences.isEmpty
                ? "all \(calls) calls of LiteLLM's are here"
                : "\(differences.count) hours differ, \(missing) of \(calls) calls are missing")
    }

    private var json: JSON {
        let hours = differences.map { hour -> JSON in
            [
                "hour": .string(hour.place.start.rfc3339), "key_hash": .string(hour.place.keyHash),
                "litellm": json(hour.litellm), "here": json(hour.here), "aside": .integer(hour.aside),
                "missing": .integer(hour.missing),
            ]
        }
        let counts = (taken ?? [:]).sorted { $0.key < $1.key }.map { JSON.Member($0.key, .integer($0.value)) }
        return [
            "from": .string(range.lowerBound.rfc3339), "to": .string(range.upperBound.rfc3339),
            "calls": .integer(calls), "taken": taken == nil ? .null : .object(counts), "differences": .array(hours),
        ]
    }

    private func json(_ sum: HourOfKey.Sum) -> JSON {
        ["calls": .integer(sum.calls), "tokens": .integer(sum.tokens), "cost": .string(sum.cost.description)]
    }
}

extension Verdict {
    fileprivate var word: String {
        switch self {
        case .stored: "stored"
        case .duplicate: "duplicate"
        case .conflict: "conflict"
        case .quarantined(let reason): "quarantined: \(reason.rawValue)"
        }
    }
}
