/// What pgbench says at the end.
struct PgbenchReport: Equatable {
    let transactions: Int
    /// Transactions a second, without the time in which the clients connected.
    let rate: Double
    /// Milliseconds.
    let meanLatency: Double

    /// - Throws: ``WrongResult`` where a number is missing, or a transaction failed.
    init(_ output: String) throws {
        guard let transactions = Self.number(after: "number of transactions actually processed: ", in: output),
            let failed = Self.number(after: "number of failed transactions: ", in: output),
            let latency = Self.number(after: "latency average = ", in: output),
            let rate = Self.number(after: "tps = ", in: output)
        else { throw WrongResult(description: "pgbench did not report: \(output)") }
        try WrongResult.require(failed == 0, "\(failed) of pgbench's transactions failed.")
        self.transactions = Int(transactions)
        self.rate = rate
        meanLatency = latency
    }

    private static func number(after words: String, in text: String) -> Double? {
        text.split(separator: "\n").first { $0.hasPrefix(words) }
            .flatMap { Double($0.dropFirst(words.count).prefix { $0.isNumber || $0 == "." }) }
    }
}
