internal import Crypto
package import Domain
package import Postgres

/// Sanctum's bearer tokens in Laravel's `personal_access_tokens`, made and read as Laravel does.
package struct AccessToken: Sendable, Hashable {
    /// Laravel's id of the token.
    package let id: Int64
    /// The user.
    package let user: UserProfile
    /// Its abilities, as Laravel wrote them in JSON.
    package let abilities: String?
    /// The hash of the user's password.
    package let passwordHash: String

    /// The form of tokens by Laravel's settings.
    package struct Form: Sendable, Hashable {
        /// The values of `tokenable_type` that mean users. New tokens get the first one. Tokens of other values are not
        /// accepted.
        package let owners: [String]
        /// The begin of new tokens.
        package let prefix: String

        /// Sanctum's defaults.
        package static let standard = Form(owners: [#"App\Models\User"#])

        /// A form with these values.
        package init(owners: [String], prefix: String = "") {
            self.owners = owners
            self.prefix = prefix
        }
    }

    /// The age of `last_used_at`, in seconds, at which it is written again.
    private static let touchInterval = 60

    /// The user of the token `plain`; `nil` if it is unknown, has expired, or is not a user's.
    ///
    /// With a `lifetime` it expires that long after it was created, even if `expires_at` is later. Its use is recorded
    /// at most once a minute, so that most reads write nothing.
    ///
    /// - Throws: ``PostgresError``.
    package static func find(
        _ plain: String, _ connection: Connection, now: Timestamp, lifetime: Duration? = nil, form: Form = .standard
    ) throws -> AccessToken? {
        let parts = plain.split(separator: "|", maxSplits: 1, omittingEmptySubsequences: false)
        let secret = String(parts[parts.count - 1])
        let hash = SHA256.hash(of: secret).lowercaseHex
        let condition: Query
        if parts.count == 2 {
            guard !parts[0].isEmpty, parts[0].allSatisfy({ ("0"..."9").contains($0) }), let id = Int64(parts[0]) else {
                return nil
            }
            condition = "t.id = \(id)"
        } else {
            condition = "t.token = \(hash)"
        }
        let rows = try connection.query(
            """
            SELECT t.id, t.token, t.last_used_at IS NULL
                OR t.last_used_at < n.utc - \(touchInterval) * interval '1 second',
                   t.abilities, \(UserColumn.password), \(UserProfile.columns)
            FROM public.personal_access_tokens t
            JOIN public.users u ON u.id = t.tokenable_id
            CROSS JOIN (SELECT \(now) AT TIME ZONE 'UTC' AS utc) n
            WHERE \(condition) AND t.tokenable_type = ANY(\(form.owners)::text[])
              AND \(SoftDeletes.isPresent) AND (t.expires_at IS NULL OR t.expires_at > n.utc)
              AND (\(lifetime?.components.seconds as Int64?)::bigint IS NULL
                   OR t.created_at > n.utc - \(lifetime?.components.seconds as Int64?)::bigint * interval '1 second')
            """)
        guard let row = rows.first else { return nil }
        let (id, stored, isDue, abilities, password) = try row.decode(
            Int64.self, String.self, Bool.self, String?.self, String.self)
        guard stored.isSameSecret(as: hash) else { return nil }
        if isDue { touch(id, connection, now: now) }
        return AccessToken(
            id: id, user: try UserProfile(row, from: 5), abilities: abilities, passwordHash: password)
    }

    /// Records the use of a token. A failure is ignored, because the token is valid all the same.
    private static func touch(_ id: Int64, _ connection: Connection, now: Timestamp) {
        _ = try? connection.execute(
            """
            UPDATE public.personal_access_tokens
            SET last_used_at = date_trunc('second', \(now) AT TIME ZONE 'UTC'),
                updated_at = date_trunc('second', \(now) AT TIME ZONE 'UTC')
            WHERE id = (SELECT id FROM public.personal_access_tokens WHERE id = \(id) FOR UPDATE SKIP LOCKED)
            """)
    }

    /// Creates a token.
    ///
    /// - Parameters:
    ///   - user: The id of the user.
    ///   - connection: The connection.
    ///   - now: The time of creation.
    ///   - form: The form of the token.
    ///   - name: What it is for. The user reads it in Laravel's list of tokens.
    ///   - ability: What it may do; `*` is everything.
    ///   - end: When it expires; `nil` for Laravel's default.
    /// - Returns: The token in clear text, which is not stored.
    /// - Throws: ``PostgresError``.
    package static func create(
        for user: Int64, _ connection: Connection, now: Timestamp, form: Form = .standard,
        name: String = "auth-token", ability: String = "*",
        end: Timestamp? = nil
    ) throws -> String {
        let secret = form.prefix + randomSecret()
        // The column is named only where it is used: roles of an older version may not write it.
        let (column, value): (Query, Query) = end.map { (", expires_at", ", \(second(of: $0))") } ?? ("", "")
        let rows = try connection.query(
            """
            INSERT INTO public.personal_access_tokens (
                tokenable_type, tokenable_id, name, token, abilities, created_at, updated_at\(column))
            VALUES (\(form.owners.first), \(user), \(name), \(SHA256.hash(of: secret).lowercaseHex),
                    json_build_array(\(ability)::text)::text,
                    \(second(of: now)), \(second(of: now))\(value))
            RETURNING id
            """)
        return "\(try rows[0].decode(0, as: Int64.self))|\(secret)"
    }

    /// SQL of `moment` as Laravel keeps it.
    private static func second(of moment: Timestamp) -> Query {
        "date_trunc('second', \(moment) AT TIME ZONE 'UTC')"
    }

    /// Deletes the token `id`.
    ///
    /// - Throws: ``PostgresError``.
    package static func delete(_ id: Int64, _ connection: Connection) throws {
        try connection.execute("DELETE FROM public.personal_access_tokens WHERE id = \(id)")
    }

    /// 40 random letters and digits, and their CRC-32, by which scanners for leaked secrets recognise a token.
    private static func randomSecret() -> String {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        let random = String((0..<40).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &generator)] })
        return random + random.crc32
    }
}

extension String {
    /// Whether two digests of one length are equal, in a time that does not depend on where they differ.
    fileprivate func isSameSecret(as other: String) -> Bool {
        utf8.count == other.utf8.count && zip(utf8, other.utf8).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }

    /// PHP's `hash('crc32b', …)`: the CRC-32 of ISO-HDLC, 8 hexadecimal digits.
    fileprivate var crc32: String {
        var remainder: UInt32 = .max
        for byte in utf8 {
            remainder ^= UInt32(byte)
            for _ in 0..<8 { remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0xEDB8_8320 : 0) }
        }
        let value = ~remainder
        return (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32($0))) }.lowercaseHex
    }
}
