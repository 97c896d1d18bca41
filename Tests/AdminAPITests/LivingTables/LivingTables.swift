import Domain
import Logging
import Postgres
import Storage
import TestSupport

@testable import AdminAPI

/// A story of Laravel's tables: step after step by writers of every kind, and what the API answers after each.
final class LivingTables {
    /// What one step can be, and how often.
    struct Operation: Sendable {
        let weight: Int
        let name: String
        /// Whether ids may begin again, after which the history of rows that are gone stays, and is not made again.
        let seals: Bool
        let run: @Sendable (LivingTables) async throws -> Void

        init(
            _ weight: Int, _ name: String, seals: Bool = false,
            _ run: @escaping @Sendable (LivingTables) async throws -> Void
        ) {
            self.weight = weight
            self.name = name
            self.seals = seals
            self.run = run
        }
    }

    /// An answer that differs from a plain query's.
    struct Mismatch: Hashable, CustomStringConvertible {
        let step: Int
        /// What was asked. Only the first mismatch of each kind is reported.
        let kind: String
        let text: String
        let trail: [String]

        var description: String { "step \(step), \(kind): \(text) [\(trail.joined(separator: " | "))]" }
    }

    /// The administrator, who has no rows.
    static let admin: Int64 = 1

    let bench: AdminBench
    let queue: GroupCommit
    let writer: EventWriter
    var random: SplitMix64
    var model = LivingModel()
    /// The living users, and the present key and bearer token of each.
    var users: [Int64] = []
    var keys: [Int64: String] = [:]
    var tokens: [Int64: String] = [:]
    /// Events that wait in quarantine for others to leave `api_logs` alone.
    var waiting: [(UsageEvent, LivingModel.Fact, LivingModel.Token)] = []
    /// The last token that a row was given.
    var lastToken: LivingModel.Token = 0
    /// The sequence at the last pass. Rows that are imported with smaller ids are in no rollup until a rebuild.
    var passedID: Int64 = 0
    /// Whether ids may have gone back since the last pass. The next pass notices it.
    var awaitsPass = false
    /// Whether ids began again, or the table was truncated, in this run.
    var isSealed = false
    private(set) var steps = 0
    private var trail: [String] = []
    private var mismatches: [Mismatch] = []

    var pool: ConnectionPool { bench.pool }
    var database: TestDatabase { bench.database }
    var now: Timestamp { bench.clock.now }

    /// Runs `steps` operations at random and returns the answers that were wrong.
    static func run(
        _ bench: AdminBench, seed: UInt64, steps: Int, without names: Set<String>
    ) async throws -> [Mismatch] {
        let story = LivingTables(bench, seed: seed, without: names)
        let commits = Task { [queue = story.queue] in try await queue.run() }
        defer { commits.cancel() }
        try await story.begin()
        for _ in 0..<steps { await story.step() }
        await story.attempt("the end") { try await story.end() }
        return story.mismatches
    }

    private let operations: [Operation]

    private init(_ bench: AdminBench, seed: UInt64, without names: Set<String>) {
        self.bench = bench
        // Half of the stories prove what a rebuild repairs, up to their end.
        let mayBeSealed = seed.isMultiple(of: 2)
        operations = Self.operations.filter { !names.contains($0.name) && (mayBeSealed || !$0.seals) }
        random = SplitMix64(seed: seed)
        let clock = bench.clock
        writer = EventWriter(pool: bench.database.pool(as: .webhook), now: { clock.now })
        queue = GroupCommit(writer: writer)
    }

    private func begin() async throws {
        try await bench.makeUser(Self.admin, isAdmin: true)
        tokens[Self.admin] = try await bench.token(of: Self.admin)
        for _ in 0..<4 { try await makeUser() }
    }

    private func step() async {
        steps += 1
        let total = operations.reduce(0) { $0 + $1.weight }
        var place = Int.random(in: 0..<total, using: &random)
        let next = operations.first { operation in
            place -= operation.weight
            return place < 0
        }
        guard let operation = next else { return }
        note("\(steps) \(operation.name)")
        await attempt(operation.name) { try await operation.run(self) }
        await attempt("reading") { try await readAnything() }
    }

    /// Says what happened, for the trail of a mismatch.
    func note(_ text: String) {
        trail = trail.suffix(11) + [text]
    }

    func expect(_ isAsExpected: Bool, _ kind: String, _ text: @autoclosure () -> String) {
        guard !isAsExpected, !mismatches.contains(where: { $0.kind == kind }) else { return }
        mismatches.append(Mismatch(step: steps, kind: kind, text: String(text().prefix(1_500)), trail: trail))
    }

    /// Does what our programs do; whatever they throw is a mismatch.
    @discardableResult
    func attempt<T: Sendable>(_ kind: String, _ body: () async throws -> T) async -> T? {
        do {
            return try await body()
        } catch {
            expect(false, "\(kind) throws", String(reflecting: error))
            return nil
        }
    }

    func pick<T>(_ values: [T], _ random: inout SplitMix64) -> T? { values.randomElement(using: &random) }

    func isOneOf(_ cases: Int) -> Bool { Int.random(in: 0..<cases, using: &random) == 0 }

    func makeUser() async throws {
        let id = Int64(try await bench.number("SELECT last_value + 1 FROM users_id_seq"))
        try await bench.makeUser(id)
        users.append(id)
        keys[id] = "cf_key_of_\(id)"
        tokens[id] = try await bench.token(of: id)
    }

    /// Every row, as a plain query finds it.
    func rows() async throws -> [LivingModel.Row] {
        try await pool.withConnection { connection in
            try connection.query(
                """
                SELECT id, user_id, response_time_ms::bigint, model, status, input_tokens::bigint, total_cost::text,
                       CASE WHEN isfinite(created_at) THEN floor(extract(epoch FROM created_at) / 900)::bigint
                           ELSE 0 END,
                       output_tokens::bigint
                FROM public.api_logs ORDER BY id
                """
            ).map { row in
                let cost: String = try row.decode(6)
                let (picodollars, token) = (DecimalLiteral(cost)?.scaled(by: 12), try row.decode(2, as: Int64.self))
                let fact = LivingModel.Fact(
                    user: try row.decode(1), quarter: try row.decode(7), tokens: try row.decode(5),
                    outputTokens: try row.decode(8), duration: token, picodollars: picodollars,
                    microdollars: (picodollars ?? 0) / 1_000_000, model: try row.decode(3),
                    status: try row.decode(4))
                return LivingModel.Row(id: try row.decode(0), token: token, fact: fact)
            }
        }
    }
}
