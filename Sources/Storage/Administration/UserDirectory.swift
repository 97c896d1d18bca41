import Domain
package import Postgres

/// The users as an administrator looks for them, a page at a time.
package enum UserDirectory {
    /// Characters by which a key is found: all of them would let a key be guessed one by one.
    private static let shownOfKey = 12

    /// Which users are meant; each condition narrows.
    package struct Filter: Sendable, Hashable {
        /// A part of the name or e-mail in any case, or the beginning of the key.
        package var search: String?
        package var plan: String?
        package var status: String?
        package var isAdmin: Bool?
        package var isDeleted: Bool?

        package init(
            search: String? = nil, plan: String? = nil, status: String? = nil, isAdmin: Bool? = nil,
            isDeleted: Bool? = nil
        ) {
            self.search = search
            self.plan = plan
            self.status = status
            self.isAdmin = isAdmin
            self.isDeleted = isDeleted
        }

        fileprivate var conditions: [Query] {
            [
                search.map { text in
                    """
                    (\(TextSearch.condition("u.name", has: text)) OR \(TextSearch.condition("u.email", has: text))
                     OR starts_with(left(u.api_key, \(shownOfKey)::integer), \(text)))
                    """
                },
                plan.map { "u.plan = \($0)" }, status.map { "u.status = \($0)" }, isAdmin.map { "u.is_admin = \($0)" },
                // All of them at once, not a function call for each user that is looked at.
                isDeleted.map { "(u.id IN (SELECT metering.deleted_users())) = \($0)" },
            ].compactMap(\.self)
        }
    }

    /// The order of a page; equal users stand in the order of their ids.
    package enum Sort: String, Sendable, CaseIterable {
        case id, name, email
        case createdAt = "created_at"

        /// What is compared; never NULL.
        fileprivate var key: Query {
            switch self {
            case .id: "u.id"
            case .name: "lower(u.name)"
            case .email: "lower(u.email)"
            case .createdAt: "coalesce(u.created_at, '-infinity')"
            }
        }

        fileprivate var type: Query {
            switch self {
            case .id: "bigint"
            case .name, .email: "text"
            case .createdAt: "timestamp"
            }
        }
    }

    /// Where a page ended.
    package struct Cursor: Sendable, Hashable, Codable {
        package var key: String
        package var id: Int64

        package init(key: String, id: Int64) {
            self.key = key
            self.id = id
        }
    }

    /// One page, and where the next one begins; `nil` after the last.
    package struct Page: Sendable, Hashable {
        package let accounts: [UserAccounts.Account]
        package let next: Cursor?
    }

    /// At most `limit` of the users whom `filter` means, behind `cursor`.
    ///
    /// - Throws: ``AppError`` `.invalid` for a cursor of another order.
    package static func list(
        _ filter: Filter, sort: Sort = .id, isDescending: Bool = false, after cursor: Cursor? = nil, limit: Int,
        _ connection: Connection
    ) throws -> Page {
        let comparison: Query = isDescending ? "<" : ">"
        let direction: Query = isDescending ? "DESC" : "ASC"
        let beyond = cursor.map {
            "(\(sort.key), u.id) \(comparison) (\($0.key)::\(sort.type), \($0.id)::bigint)" as Query
        }
        let conditions = filter.conditions + [beyond].compactMap(\.self)
        let condition = conditions.reduce("true" as Query) { "\($0) AND \($1)" }
        do {
            let rows = try connection.query(
                """
                SELECT \(UserAccounts.Account.columns), (\(sort.key))::text
                FROM public.users u WHERE \(condition)
                ORDER BY \(sort.key) \(direction), u.id \(direction) LIMIT \(limit + 1)
                """)
            let accounts = try rows.prefix(limit).map(UserAccounts.Account.init)
            guard rows.count > limit, let last = accounts.last else { return Page(accounts: accounts, next: nil) }
            let key = try rows[limit - 1].decode(UserAccounts.Account.columnCount, as: String.self)
            return Page(accounts: accounts, next: Cursor(key: key, id: last.id))
        } catch let error as PostgresError where error.sqlState?.hasPrefix("22") == true {
            throw AppError(.invalid, "The cursor is not one of this order. Begin again without it.")
        }
    }
}
