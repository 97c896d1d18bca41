package import Domain
package import Postgres

/// The rules of our SQL that several statements share, and the mapping between PostgreSQL's values and the domain's.
extension Query {
    /// SQL of a `bigint` of the number `sum`, saturated at both ends. Other writers may have stored large negative
    /// numbers.
    package static func saturated(_ sum: String) -> String {
        "greatest(least(\(sum), 9223372036854775807), -9223372036854775807)::bigint"
    }

    /// SQL of the number `count` as Laravel's `integer` columns hold it: saturated at the end of int4. NULL, which is
    /// no limit, becomes the end too.
    package static func laravelCount(of count: Query) -> Query {
        "least(\(count), 2147483647)"
    }

    /// SQL of the Laravel cost of an amount in USD: rounded half away from zero and saturated, as `api_logs.total_cost`
    /// is (``Cost/microdollars``).
    package static func laravelCost(of usd: String) -> String {
        "least(round(\(usd), 6), 9999.999999)"
    }
}

extension Query.StringInterpolation {
    /// SQL of a `bigint` of the number `sum`, saturated (``Query/saturated(_:)``).
    package mutating func appendInterpolation(saturated sum: String) {
        appendInterpolation(unsafeSQL: Query.saturated(sum))
    }

    /// SQL of the text of a `timestamptz` in RFC 3339, in UTC and whole seconds: `2026-11-23T12:00:00Z`. Our sessions
    /// run in UTC.
    package mutating func appendInterpolation(rfc3339 expression: String) {
        appendInterpolation(unsafeSQL: #"to_char(\#(expression), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#)
    }

    /// A moment as a `timestamptz`, exact to the microsecond. It goes through the integer, as `to_timestamp` takes a
    /// double.
    package mutating func appendInterpolation(_ timestamp: Timestamp) {
        appendLiteral("('epoch'::timestamptz + ")
        appendInterpolation(timestamp.microseconds)
        appendLiteral("::bigint * interval '1 microsecond')")
    }

    /// SQL that turns a `timestamptz` into microseconds since 1970. It is NULL for NULL, for infinity, and outside of
    /// the years 1 to 9999, which our texts cannot write.
    package mutating func appendInterpolation(microseconds expression: String) {
        appendInterpolation(
            unsafeSQL: """
                CASE WHEN \(expression) >= '0001-01-01Z' AND \(expression) <= '9999-12-31 23:59:59.999999Z'
                     THEN (extract(epoch FROM \(expression)) * 1000000)::bigint END
                """)
    }
}

extension Money: PostgresDecodable {
    /// Reads a `numeric`.
    package init?(postgresText text: ArraySlice<UInt8>?) {
        guard let money = text?.withUnsafeBufferPointer(Money.init(numeric:)) else { return nil }
        self = money
    }

    /// Reads the text of a `numeric` in USD, rounded to 12 decimals; `nil` where it is no finite number, or has more
    /// than 37 digits.
    package init?(numeric text: UnsafeBufferPointer<UInt8>) {
        var (amount, decimals, isNegative): (Int128, Int?, Bool) = (0, nil, false)
        for byte in text {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                amount = amount &* 10 &+ Int128(byte &- UInt8(ascii: "0"))
                decimals = decimals.map { $0 + 1 }
            case UInt8(ascii: "."): decimals = 0
            case UInt8(ascii: "-"): isNegative = true
            default: return nil
            }
        }
        // 26 digits and 12 decimals are below 2^127.
        let missing = 12 - (decimals ?? 0)
        guard missing >= 0 else {
            self.init(String(decoding: text, as: UTF8.self))
            return
        }
        guard text.count + missing <= 38 else { return nil }
        for _ in 0..<missing { amount *= 10 }
        self.init(picodollars: isNegative ? -amount : amount)
    }
}

extension AppError {
    /// The error that a client gets for a database failure; `nil` for an internal error.
    ///
    /// A temporary failure is ``Code/unavailable`` with a `Retry-After`, so that a sender sends the same body again.
    package init?(_ error: PostgresError) {
        if error.isRowSecurity {
            self.init(
                .unavailable,
                "Row-level security hides rows of the database from this service, so it cannot answer. Send the "
                    + "same request again after its operator has corrected that; 'codexflow doctor' says how.",
                retryAfter: 10)
        } else if error.isTransient || error.kind == .cancelled || error.sqlState == "57014" {
            self.init(.unavailable, "The database is unavailable. Send the same request again.", retryAfter: 1)
        } else {
            return nil
        }
    }
}
