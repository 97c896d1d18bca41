import Foundation
import TestSupport
import Testing

/// The command lines write through `Terminal`, which makes visible what comes from data.
@Suite(.timeLimit(.minutes(30))) struct PrintingTests {
    @Test(arguments: ["CodexFlow", "AggregationWorker"]) func nothingIsPrintedPastTheTerminal(target: String) throws {
        let folder = Checkout.root.appending(path: "Sources/\(target)")
        let files = try FileManager.default.subpathsOfDirectory(atPath: folder.path()).filter { $0.hasSuffix(".swift") }
        var definesPrint = false
        for file in files {
            let text = try String(contentsOf: folder.appending(path: file), encoding: .utf8)
            definesPrint = definesPrint || text.contains("\nfunc print(_ items: Any...")
            // It writes numbers, and moves the cursor itself.
            if file == "ProgressReport.swift" { continue }
            for way in ["Swift.print(", "FileHandle.standard", "fputs(", "putchar(", "debugPrint(", "dump("] {
                #expect(!text.contains(way), "\(file) writes by \(way)")
            }
        }
        #expect(definesPrint, "\(target) prints by Swift's own function")
    }
}
