package import Domain

/// One hour of one key: what LiteLLM's own database counts, and what is here.
package struct HourOfKey: Sendable, Hashable {
    /// Where a count is of: an hour since 1970, and a key's SHA-256 in hexadecimal.
    package struct Place: Sendable, Hashable, Comparable {
        package var hour: Int64
        package var keyHash: String

        package init(hour: Int64, keyHash: String) {
            self.hour = hour
            self.keyHash = keyHash
        }

        /// The moment at which the hour begins.
        package var start: Timestamp { Timestamp(microseconds: hour * 3_600_000_000) }

        package static func < (left: Place, right: Place) -> Bool {
            (left.hour, left.keyHash) < (right.hour, right.keyHash)
        }
    }

    /// Calls that a provider worked for, their tokens and their cost.
    package struct Sum: Sendable, Hashable {
        package var calls: Int64 = 0
        package var tokens: Int64 = 0
        package var cost = Money.zero
    }

    package var place: Place
    package var litellm = Sum()
    package var here = Sum()
    /// Calls of LiteLLM's that wait in quarantine here, or were discarded there.
    package var aside: Int64 = 0
    /// Calls of LiteLLM's of which nothing is known here.
    package var missing: Int64 = 0

    package init(place: Place) {
        self.place = place
    }

    /// Whether both say the same, but for what waits in quarantine.
    package var isEqual: Bool {
        missing == 0 && litellm.calls == here.calls + aside
            && (aside > 0 || litellm.tokens == here.tokens && litellm.cost == here.cost)
    }
}
