import Domain
import Foundation
import Postgres
import Storage

/// The users of every benchmark. Their ids have five digits and their keys 67 characters, so that all events of one
/// template have the same length.
enum Person {
    static let firstID = 10_001
    static let count = 10_000
    /// Makes a tenth of all calls that were there before.
    static let heavyID = firstID
    /// Asks about everybody.
    static let administratorID = firstID + 1

    /// How often each appears.
    enum Distribution: Sendable {
        case uniform
        /// The k-th with a frequency of k^-1.3: the first makes a quarter of all calls.
        case zipf

        static let exponent = 1.3

        /// `number` ids drawn at random.
        func draw(_ number: Int, using generator: inout some RandomNumberGenerator) -> [Int] {
            switch self {
            case .uniform: return (0..<number).map { _ in .random(in: firstID..<(firstID + count), using: &generator) }
            case .zipf:
                var sum = 0.0
                let bounds = (1...count).map { rank in
                    sum += 1 / pow(Double(rank), Self.exponent)
                    return sum
                }
                return (0..<number).map { _ in
                    firstID + bounds.firstIndex(above: .random(in: 0..<sum, using: &generator))
                }
            }
        }
    }

    static func key(of id: Int) -> String {
        let digits = String(id)
        return "cf_" + String(repeating: "0", count: 64 - digits.count) + digits
    }

    /// Makes all of them, as Laravel would, and looks at their keys. Throws `PostgresError`.
    static func insertAll(_ connection: Connection, now: Timestamp) throws {
        let ids = Array(firstID..<(firstID + count))
        try connection.execute(
            """
            INSERT INTO public.users (id, name, email, password, api_key, plan, created_at, updated_at)
            SELECT u.id, 'User ' || u.id, 'user' || u.id || '@example.com', 'x', u.key,
                   (ARRAY['starter', 'pro', 'agency'])[1 + u.id % 3], now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
            FROM unnest(\(ids.map(Int64.init))::bigint[], \(ids.map(key))::text[]) AS u (id, key)
            """)
        try connection.execute("SELECT setval('public.users_id_seq', \(firstID + count))")
        try KeyHistory.sync(connection, now: now)
    }
}

extension [Double] {
    /// The position of the first element above `value`, of ascending ones; the last position where none is.
    fileprivate func firstIndex(above value: Double) -> Int {
        var (low, high) = (0, count - 1)
        while low < high {
            let middle = (low + high) / 2
            if self[middle] > value { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
