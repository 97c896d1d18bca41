import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// The list of users for administrators.
@Suite(.timeLimit(.minutes(30))) struct UserDirectoryTests {
    private func with(_ body: @escaping @Sendable (StorageBench) async throws -> Void) async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                INSERT INTO users (name, email, password, api_key, plan, status, is_admin, created_at)
                SELECT (ARRAY['Ada', 'ada', 'Bob', 'Çelik', 'Eve_%'])[1 + g % 5], 'user' || g || '@example.com', 'x',
                       CASE WHEN g % 2 = 0 THEN 'cf_' || lpad(g::text, 64, '0') END,
                       (ARRAY['starter', 'pro', 'agency'])[1 + g % 3], CASE WHEN g % 7 = 0 THEN 'suspended'
                           ELSE 'active' END,
                       g = 1, CASE WHEN g % 4 > 0 THEN '2026-01-01'::timestamp + g % 6 * interval '1 day' END
                FROM generate_series(1, 25) g
                """)
            try await body(bench)
        }
    }

    @Test(arguments: UserDirectory.Sort.allCases, [false, true])
    func pagesHaveEveryUserOnceInOrder(sort: UserDirectory.Sort, isDescending: Bool) async throws {
        try await with { bench in
            let whole = try await bench.admin.withConnection {
                try UserDirectory.list(.init(), sort: sort, isDescending: isDescending, limit: 100, $0)
            }
            #expect(whole.next == nil && Set(whole.accounts.map(\.id)).count == 25)
            var (accounts, cursor): ([UserAccounts.Account], UserDirectory.Cursor?) = ([], nil)
            repeat {
                let page = try await bench.admin.withConnection { [cursor] in
                    try UserDirectory.list(.init(), sort: sort, isDescending: isDescending, after: cursor, limit: 4, $0)
                }
                accounts += page.accounts
                cursor = page.next
            } while cursor != nil
            #expect(accounts == whole.accounts)
        }
    }

    @Test func conditionsNarrow() async throws {
        let expected: [(UserDirectory.Filter, [Int64])] = [
            (.init(search: "ADA"), [1, 5, 6, 10, 11, 15, 16, 20, 21, 25]),
            // The search is no pattern: `%` and `_` are ordinary characters.
            (.init(search: "e_%"), [4, 9, 14, 19, 24]),
            (.init(search: "%"), [4, 9, 14, 19, 24]),
            (.init(search: "user17@"), [17]),
            (.init(search: "cf_000000000"), [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]),
            (.init(search: "cf_0000000000"), []),
            (.init(plan: "pro", status: "suspended"), [7]),
            (.init(isAdmin: true), [1]),
            (.init(search: "nobody"), []),
        ]
        try await with { bench in
            for (filter, ids) in expected {
                let page = try await bench.admin.withConnection { try UserDirectory.list(filter, limit: 100, $0) }
                #expect(page.accounts.map(\.id) == ids, "\(filter)")
            }
        }
    }

    @Test func aCursorOfAnotherOrderIsRefused() async throws {
        try await with { bench in
            let error = await #expect(throws: AppError.self) {
                try await bench.admin.withConnection {
                    _ = try UserDirectory.list(.init(), sort: .id, after: .init(key: "ada", id: 1), limit: 4, $0)
                }
            }
            #expect(error?.code == .invalid)
        }
    }
}
