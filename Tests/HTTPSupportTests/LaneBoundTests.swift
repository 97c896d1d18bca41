import Bootstrap
import HTTPSupport
import HummingbirdTesting
import TestSupport
import Testing

/// The bounds of a route are the same in a lane: who may ask, how much, how slowly, and what a stop leaves unanswered.
@Suite(.timeLimit(.minutes(30))) struct LaneBoundTests {
    @Test(arguments: RouteKind.allCases)
    func whoMayAskIsCheckedBeforeTheBodyComes(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.server.settings.trustedProxies = try [#require(CIDR("127.0.0.0/8")), #require(CIDR("::1"))]
        bench.server.settings.allowedAddresses = try [#require(CIDR("192.0.2.0/24"))]
        bench.server.settings.rateLimit = .init(rate: 1, burst: 2)
        let start = ContinuousClock.now
        bench.server.now = { start }
        let text = try await bench.connected { connection in
            for (address, key) in [("198.51.100.1", LaneBench.key), ("192.0.2.7", "x"), ("192.0.2.7", LaneBench.key)] {
                try await connection.send(LaneBench.post(key: key, headers: ["X-Forwarded-For: \(address)"]))
            }
            // The last one is refused with no byte of its body.
            try await connection.send(
                LaneBench.post("", headers: ["X-Forwarded-For: 192.0.2.7", "Content-Length: 1000"]))
            return try await connection.receive(until: "Too many requests")
        }
        #expect(LaneBench.statuses(text) == ["403", "401", "200", "429"])
        #expect(text.contains("\r\nRetry-After: 1\r\n"))
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func aBodyOverTheLimitIsRefusedAndTheNextRequestIsAnswered(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.limit = 1000
        let long = String(repeating: "a", count: 1001)
        let text = try await bench.connected { connection in
            // It is answered before its body comes.
            try await connection.send(LaneBench.post("", headers: ["Content-Length: 1001"]))
            let early = try await connection.receive(until: "limit of 1000 bytes")
            try await connection.send(long + LaneBench.post())
            try await connection.send(
                LaneBench.post("3e9\r\n\(long)\r\n0\r\n\r\n", headers: ["Transfer-Encoding: chunked"])
                    + LaneBench.post("c"))
            return try await early + connection.receive(until: "1 99")
        }
        #expect(LaneBench.statuses(text) == ["413", "200", "413", "200"])
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func withoutFreeMemoryTheAnswerIs503(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.budget = ByteBudget(capacity: 10, sleep: { _ in })
        try await bench.budget.acquire(10)
        let text = try await bench.connected { connection in
            try await connection.send(LaneBench.post() + LaneBench.health)
            return try await connection.receive(until: #"{"status":"ok"}"#)
        }
        #expect(LaneBench.statuses(text) == ["503", "200"])
        #expect(text.contains("\r\nRetry-After: 1\r\n"))
        #expect(bench.budget.usage == (10, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func aBodyWaitsForMemoryAndIsReadThen(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.budget = ByteBudget(capacity: 60_000, timeout: .seconds(600))
        try await bench.budget.acquire(60_000)
        let budget = bench.budget
        let text = try await bench.connected { connection in
            try await connection.send(LaneBench.post(String(repeating: "a", count: 50_000)) + LaneBench.post("c"))
            try await eventually("the body waits") { budget.usage.waiting == 1 }
            budget.release(60_000)
            return try await connection.receive(until: "1 99")
        }
        #expect(LaneBench.statuses(text) == ["200", "200"] && text.contains("50000 \(50_000 * 97)"))
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func manyBodiesStayWithinTheBudgetAndAllArrive(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.budget = ByteBudget(capacity: 100_000, timeout: .seconds(600))
        let answered = try await bench.run { port in
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<40 {
                    group.addTask {
                        try await RawConnection.run(port: port) { connection in
                            try await connection.send(LaneBench.post(String(repeating: "a", count: 40_000)))
                            return try await connection.receive(until: "40000 \(40_000 * 97)")
                        }
                    }
                }
                return try await group.reduce(into: []) { $0 += LaneBench.statuses($1) }
            }
        }
        #expect(answered == Array(repeating: "200", count: 40))
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func aHalfBodyIsNotHandledAndItsBytesAreReleased(kind: RouteKind) async throws {
        let bench = LaneBench(kind)
        let half = LaneBench.post("half", headers: ["Content-Length: 1000"])
        try await bench.run { port in
            try await RawConnection.run(port: port) { connection in
                try await connection.send(half)
                try await eventually("the half is held") { bench.budget.usage.used > 0 }
            }
            try await eventually("the request is logged") { !bench.requestLines.isEmpty }
            // One that only ends its side gets an answer.
            let text = try await RawConnection.run(port: port) { connection in
                try await connection.send(half)
                try await connection.endOutput()
                return try await connection.receiveAll()
            }
            #expect(LaneBench.statuses(text) == ["400"])
        }
        #expect(bench.requestLines.map { $0["status"] } == ["400", "400"])
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases, ["", "POST /api/sum HTTP/1.1\r\nX-API", LaneBench.post("")])
    func aSilentConnectionIsClosed(kind: RouteKind, sent: String) async throws {
        var bench = LaneBench(kind)
        bench.server.settings.idleTimeout = .milliseconds(100)
        let text = try await bench.connected { connection in
            // On a busy machine the connection may be cut off before its first byte.
            if !sent.isEmpty { try? await connection.send(sent) }
            return (try? await connection.receiveAll()) ?? ""
        }
        let answered = LaneBench.statuses(text)
        #expect(answered.isEmpty || (sent == LaneBench.post("") && answered == ["200"]))
    }

    @Test(arguments: RouteKind.allCases)
    func aConnectionWhoseAnswerIsAwaitedIsNotSilent(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.server.settings.idleTimeout = .seconds(3)
        bench.gate.close()
        let gate = bench.gate
        let text = try await bench.run { port in
            try await RawConnection.run(port: port) { connection in
                try await connection.send(LaneBench.post())
                try await eventually("the request waits") { gate.waiting == 1 }
                // A connection that is opened after it is closed for its silence before it.
                let silent = try await RawConnection.run(port: port) { try await $0.receiveAll() }
                #expect(silent.isEmpty)
                gate.open()
                return try await connection.receiveAll()
            }
        }
        #expect(LaneBench.statuses(text) == ["200"])
    }

    @Test(arguments: RouteKind.allCases)
    func aSenderThatIsCutOffLeavesNoBytesReserved(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.server.settings.idleTimeout = .milliseconds(50)
        try await bench.run { [bench] port in
            try await eventually("the request is logged") {
                _ = try? await RawConnection.run(port: port) { connection in
                    try await connection.send(LaneBench.post("half", headers: ["Content-Length: 1000"]))
                    return try await connection.receiveAll()
                }
                return !bench.requestLines.isEmpty
            }
        }
        #expect(bench.requestLines.allSatisfy { $0["status"] == "400" })
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func aSlowBodyIsRefusedAtTheDeadline(kind: RouteKind) async throws {
        var bench = LaneBench(kind)
        bench.deadline = .milliseconds(200)
        try await bench.connected { [bench] connection in
            try await connection.send(LaneBench.post("", headers: ["Content-Length: 1000000"]))
            try await eventually("the request is logged") {
                // The server may just have closed the connection.
                try? await connection.send("a")
                return !bench.requestLines.isEmpty
            }
        }
        #expect(bench.requestLines.map { $0["status"] } == ["504"])
        #expect(bench.budget.usage == (0, 0))
    }

    @Test(arguments: RouteKind.allCases)
    func whatWasTakenIsAnsweredWhenTheServerStops(kind: RouteKind) async throws {
        let bench = LaneBench(kind)
        bench.gate.close()
        let (taken, taking) = AsyncStream<Void>.makeStream()
        let (stopping, stop) = AsyncStream<Int>.makeStream()
        let client = Task {
            for await port in stopping {
                return try await RawConnection.run(port: port) { connection in
                    try await connection.send(LaneBench.post())
                    try await eventually("the request waits") { bench.gate.waiting == 1 }
                    taking.finish()
                    return try await connection.receiveAll()
                }
            }
            return ""
        }
        try await bench.run { port in
            stop.yield(port)
            for await _ in taken {}
            // The server stops after this body. A request that waits holds it up until it is answered.
            Task {
                try await Task.sleep(for: .milliseconds(100))
                bench.gate.open()
            }
        }
        let text = try await client.value
        #expect(LaneBench.statuses(text) == ["200"] && text.hasSuffix("2 195"))
    }
}
