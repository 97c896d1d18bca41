import Domain
import Postgres
import Storage
import TestSupport
import Testing

/// Queries that meet big tables use their indexes (PostgreSQL manual, "Using EXPLAIN").
@Suite(.timeLimit(.minutes(30))) struct PlanTests {
    @Test func ingestScansNoBigTable() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            try await bench.fill(rows: 20_000, user: user)
            let scans = try await bench.sequentialScans {
                for round in 0..<5 {
                    let events = (0..<20).map {
                        UsageEvent.sample(
                            UInt64(1_000_000 + round * 20 + $0), by: .key("cf_ada"), at: StorageBench.noon)
                    }
                    _ = try await bench.write(events)
                    _ = try await bench.write(events)
                }
            }
            #expect(scans == [:])
        }
    }

    @Test func countersScanNoBigTable() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser()
            try await bench.fill(rows: 20_000, user: user)
            let now = StorageBench.noon
            let scans = try await bench.sequentialScans {
                for index in 0..<5 {
                    _ = try await bench.write([.sample(UInt64(1_000_000 + index), by: .user(user), at: now)])
                    try await bench.service.withConnection { connection in
                        let users = try QuotaCounters.addDeltas(connection, now: now)
                        try RateLimitProjection.project(connection, .users(users), now: now)
                    }
                }
            }
            #expect(scans == [:])
        }
    }

    @Test func anAuthorizationScansNoBigTable() async throws {
        try await StorageBench.with { bench in
            let user = try await bench.makeUser(key: "cf_ada")
            try await bench.fill(rows: 20_000, user: user)
            try await bench.service.withConnection { try KeyHistory.sync($0, now: StorageBench.noon) }
            let scans = try await bench.sequentialScans {
                for _ in 0..<20 {
                    let found = try await bench.service.withConnection {
                        try CallAuthorization.find(KeyHash(of: "cf_ada"), $0, now: StorageBench.noon)
                    }
                    #expect(found?.userID == user)
                }
            }
            #expect(scans == [:])
        }
    }

    @Test func aPageOfSpoolsReadsNoMore() async throws {
        try await StorageBench.with { bench in
            try await bench.execute(
                """
                INSERT INTO metering.spools (spool, highest, gaps, lost, seen_at)
                SELECT gen_random_uuid(), 10, '{}', 0, now() FROM generate_series(1, 20000)
                """)
            try await bench.execute("VACUUM ANALYZE metering.spools")
            let scans = try await bench.sequentialScans {
                for _ in 0..<5 {
                    let spools = try await bench.admin.withConnection { connection in
                        let first = try SpoolStatus.list(limit: 100, connection)
                        return try first + SpoolStatus.list(after: first.last?.spool, limit: 100, connection)
                    }
                    #expect(Set(spools.map(\.spool)).count == 200)
                }
            }
            #expect(scans == [:])
        }
    }

    @Test func whatAnOperatorSeesFirstScansNoBigTable() async throws {
        try await StorageBench.with { bench in
            try await bench.fill(rows: 20_000, user: try await bench.makeUser())
            try await bench.execute(
                """
                UPDATE metering.quota_usage q SET window_start = '2026-11-23'::date - (q.user_id % 100)::integer
                WHERE q.period = 'daily'
                """)
            try await bench.execute("VACUUM ANALYZE metering.quota_usage, metering.quarantine")
            let scans = try await bench.sequentialScans {
                for _ in 0..<5 {
                    let (list, status) = try await bench.admin.withConnection {
                        (try LimitPressure.list(limit: 10, $0, now: StorageBench.noon), try IngestStatus.read($0))
                    }
                    #expect(list.count == 0 && status.quarantined == Quarantine.countedAtMost)
                    #expect(status.oldestQuarantined != nil && status.missingEvents == 0)
                }
            }
            #expect(scans == [:])
        }
    }

    @Test func aScanWouldBeSeen() async throws {
        try await StorageBench.with { bench in
            try await bench.fill(rows: 20_000, user: try await bench.makeUser())
            let scans = try await bench.sequentialScans {
                try await bench.execute("SELECT count(*) FROM metering.quarantine WHERE detail = 'x'")
            }
            #expect(scans == ["metering.quarantine": 1])
        }
    }

    @Test func theDoctorScansNoBigTable() async throws {
        try await StorageBench.with { bench in
            try await bench.fill(rows: 20_000, user: try await bench.makeUser())
            try await bench.execute(
                "UPDATE metering.quarantine SET resolved_at = now(), resolution = 'stored' WHERE ctid > '(0,9)'")
            try await bench.execute("VACUUM ANALYZE metering.quarantine")
            let context = DatabaseCheck.Context(
                now: { StorageBench.noon }, rolePrefix: TestRoles.prefix, migrationsPath: Checkout.migrations,
                silence: .seconds(3600))
            let scans = try await bench.sequentialScans {
                for check in DatabaseCheck.all where ["counters", "quarantine", "last event"].contains(check.name) {
                    _ = try await bench.service.withConnection { try check.run($0, context) }
                }
            }
            #expect(scans == [:])
        }
    }
}

extension StorageBench {
    /// Rows in the tables that grow: events and logs of `user`, usage and limits of 20,000 others.
    fileprivate func fill(rows: Int, user: Int64) async throws {
        try await execute(
            """
            INSERT INTO public.users (name, email, password, api_key)
            SELECT 'x', 'x' || g, 'x', 'cf_' || g FROM generate_series(1, \(rows)) g
            """)
        try await execute(
            "INSERT INTO metering.unverified_registrations SELECT id, now() FROM public.users WHERE id <> \(user)")
        let now = clock.now
        try await service.withConnection { try KeyHistory.sync($0, now: now) }
        try await execute(
            """
            INSERT INTO metering.events (event_key, api_log_id, user_id, occurred_at, input_tokens, output_tokens,
                cached_tokens, reasoning_tokens, billable_digest, quota_tokens, quota_requests, is_stream, is_cache_hit,
                shape, status, plan, model_group)
            SELECT metering.event_key_floor('2026-11-01'::timestamptz + g * interval '1 second'), g, \(user),
                '2026-11-01', 1, 1, 0, 0, 0, 2, 1, false, false, 'litellm', 'success', 'pro', 'gpt-4'
            FROM generate_series(1, \(rows)) g
            """)
        try await execute(
            """
            INSERT INTO metering.quota_usage
            SELECT u.id, '2026-11-23', 'daily', 1, 1 FROM public.users u
            """)
        try await execute(
            """
            INSERT INTO metering.quarantine (id, reason, detail, key_hashes, received_at, last_received_at,
                                             deliveries, is_replayable, next_attempt_at)
            SELECT gen_random_uuid(), 'unknown_key', '', '{}', now(), now(), 1, false, now()
            FROM generate_series(1, \(rows))
            """)
        try await updateCounters()
        try await execute("ANALYZE")
    }
}
