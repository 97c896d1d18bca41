/// What a drill counted, and everything that must not be.
package struct FaultDrillReport: Sendable, CustomStringConvertible {
    package struct Figure: Sendable {
        package let name: String
        package let value: String
    }

    package internal(set) var figures: [Figure] = []
    /// Losses, doubles and wrong answers; empty is what the service promises.
    package internal(set) var findings: [String] = []
    /// The first lines of level error that the services wrote; no finding, but worth a look.
    package internal(set) var errorLines: [String] = []

    package var isClean: Bool { findings.isEmpty }

    mutating func add(_ name: String, _ value: some CustomStringConvertible) {
        figures.append(Figure(name: name, value: value.description))
    }

    /// A table of the figures, the findings, and the result.
    package var description: String {
        let width = figures.map(\.name.count).max() ?? 0
        let table = figures.map { figure in
            figure.name + String(repeating: " ", count: width + 2 - figure.name.count) + figure.value
        }
        let verdict = isClean ? "nothing lost, nothing doubled" : "\(findings.count) findings"
        let remarks = errorLines.map { "LOG: \($0)" } + findings.map { "FINDING: \($0)" }
        return (table + remarks + [verdict]).joined(separator: "\n")
    }
}
