/// Everything that is measured, in the order of a round, and what is compared. A new benchmark is a type and a line here.
enum Catalogue {
    static let benchmarks: [any Benchmark] =
        [
            NaiveBenchmark("naive", .uniform, "pgbench, 64 clients: SELECT user, INSERT log, two counter upserts"),
            HTTPBenchmark("singles-1", .documented, connections: 1, "one documented event (0.3 KB) a request"),
            HTTPBenchmark("singles-16", .documented, connections: 16, "the same on 16 connections"),
            HTTPBenchmark("singles-64", .documented, connections: 64, "the same on 64 connections"),
            HTTPBenchmark("singles-64-litellm", .trimmed, connections: 64, "one LiteLLM event (2 KB) a request"),
            NaiveBenchmark("naive-hot", .zipf, "naive, Zipf(1.3) users"),
            HTTPBenchmark("singles-64-hot", .documented, connections: 64, people: .zipf, "singles-64, Zipf(1.3) users"),
            WriterBenchmark("statements-1", connections: 1, "our statements alone, from memory, one connection"),
            WriterBenchmark("statements-2", connections: 2, "the same on two connections"),
            HTTPBenchmark("arrays-2k", .trimmed, events: 100, connections: 16, "100 LiteLLM events of 2 KB a request"),
            HTTPBenchmark(
                "arrays-13k", .captured, events: 100, connections: 16, "100 LiteLLM events as captured, 13 KB"),
            HTTPBenchmark(
                "arrays-2k-hot", .trimmed, events: 100, connections: 16, people: .zipf, "arrays-2k, Zipf(1.3) users"),
            CopyBenchmark("copy", "COPY of 20,000 rows into api_logs, two connections"),
            WriterBenchmark(
                "statements-1-folding", connections: 1, isFolding: true, "statements-1 while the worker folds"),
            FoldBenchmark("fold", "200,000 new events, folded by a pass of the worker"),
            FoldBenchmark("fold-bare", isBare: true, "the same by one INSERT … SELECT … GROUP BY … ON CONFLICT"),
        ]
        + reports
        + ReadQuestion.all.flatMap { question in
            [1, 16].map { ReadBenchmark("read-\(question.name)-\($0)", question, connections: $0) }
        } + [
            ExportBenchmark("export", "the heavy user's calls as Laravel's CSV, over HTTP; rows a second"),
            ExportBenchmark("export-copy", isCopy: true, "the same by psql's \\copy"),
        ]

    /// What dashboards ask: with a long tail, as a worker leaves it that runs once a minute or lags behind, and with that of one
    /// that runs as a service.
    static let reports: [any Benchmark] =
        ReportQuestion.all.map { ReportBenchmark("report-\($0.name)", $0, tail: $0.name == "plain" ? nil : 60_000) }
        + ReportQuestion.all.filter { $0.name != "plain" }.map {
            ReportBenchmark("report-\($0.name)-1k", $0, tail: 1_000)
        }

    static let ratios = [
        Ratio("singles-64", to: "naive", aim: 3.5),
        Ratio("singles-64-litellm", to: "naive"),
        Ratio("singles-64-hot", to: "naive-hot"),
        Ratio("arrays-2k", to: "naive", aim: 12),
        Ratio("arrays-13k", to: "naive", aim: 7),
        Ratio("arrays-2k", to: "statements-2", aim: 0.6),
        Ratio("arrays-13k", to: "statements-2", aim: 0.6),
        Ratio("arrays-2k", to: "copy"),
        Ratio("statements-2", to: "copy"),
        Ratio("statements-1-folding", to: "statements-1", aim: 0.85),
        Ratio("fold", to: "fold-bare", aim: 0.7),
        Ratio("report-series-day", to: "report-plain", aim: 50),
        Ratio("report-series-day-1k", to: "report-plain", aim: 50),
        Ratio("export", to: "export-copy", aim: 0.4),
    ]
}
