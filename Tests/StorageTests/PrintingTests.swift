import Foundation
import TestSupport
import Testing

/// The command lines write through `Terminal`, which makes visible what comes from data.
@Suite(.timeLimit(.minutes(15))) struct PrintingTests {
    @Test(arguments: ["CodexFlow", "AggregationWorker"]) func nothingIsPrintedPastTheTerminal(target: String) throws {
        let folder = Checkout.root.appending(path: "Sources/\(target)")
        let files = try FileManager.default.subpathsOfDirectory(atPath: folder.path()).filter { $0.hasSuffix(".swift") }
        #expect(files.contains("Print.swift"))
        // It writes numbers, and moves the cursor itself.
        for file in files where file != "ProgressReport.swift" {
            let text = try String(contentsOf: folder.appending(path: file), encoding: .utf8)
            for way in ["Swift.print(", "FileHandle.standard", "fputs(", "putchar(", "debugPrint(", "dump("] {
                #expect(!text.contains(way), "\(file) writes by \(way)")
            }
        }
    }
}
