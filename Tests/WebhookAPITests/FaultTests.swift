import Postgres
import Storage
import TestSupport
import Testing

/// The short form of `make faults`: nothing acknowledged is lost, nothing counted twice.
@Suite(.timeLimit(.minutes(30))) struct FaultTests {
    @Test(arguments: [(services: 1, rounds: 2), (services: 2, rounds: 1)])
    func nothingIsLostOrDoubled(services: Int, rounds: Int) async throws {
        let options = FaultDrill.Options(rounds: rounds, services: services, clients: 4)
        let report = try await FaultDrill(options) { _ in }.run()
        #expect(report.isClean, "\(report)")
    }

    /// The event is in the primary alone: it was stored before there was a synchronous standby.
    @Test func aDuplicateIsAcknowledgedOnlyWhenAStandbyHasTheEvent() async throws {
        try await withPostgresCluster { cluster in
            let database = try await DrillDatabase.make(in: cluster)
            try await withPool(database) { pool in
                @Sendable func number(_ query: Query) async throws -> Int {
                    try await pool.withConnection { try $0.query(query)[0].decode(0, as: Int.self) }
                }
                let waiting: Query = "SELECT count(*) FROM pg_stat_activity a WHERE a.wait_event = 'SyncRep'"
                try await pool.withConnection { connection in
                    try connection.executeScript(
                        """
                        INSERT INTO public.users (name, email, password, api_key)
                        VALUES ('Ada', 'ada@example.com', 'x', 'cf_ada')
                        """)
                }
                try await RunningWebhook.with(databaseURL: database.role(.webhook).url) { webhook in
                    let body = "[\(litellmEvent(1, key: "cf_ada"))]"
                    #expect(try await webhook.post(body).body.contains(#""stored":1"#))
                    // Then the background jobs have nothing to write.
                    try await eventually("Laravel's counters are written") {
                        try await number("SELECT count(*) FROM public.rate_limits") > 0
                    }
                    try await cluster.set("synchronous_standby_names = 'nobody'")
                    #expect(try await number(waiting) == 0)
                    async let second = webhook.post(body)
                    try await eventually("the duplicate waits for a standby") { try await number(waiting) > 0 }
                    try await cluster.set("synchronous_standby_names = ''")
                    #expect(try await second.body.contains(#""duplicates":1"#))
                }
            }
        }
    }

    @Test func nothingIsLostOrDoubledWhenAStandbyTakesOver() async throws {
        let options = FaultDrill.Options(rounds: 1, hasStandby: true, clients: 4)
        let report = try await FaultDrill(options) { _ in }.run()
        #expect(report.isClean, "\(report)")
    }
}
