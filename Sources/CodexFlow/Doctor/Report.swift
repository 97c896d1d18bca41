import Bootstrap
import Foundation
import Storage

/// What the doctor found, for people and for programs.
struct Report: Encodable {
    /// The worst level of all.
    let level: Finding.Level
    let findings: [Finding]

    init(_ findings: [Finding]) {
        self.findings = findings
        level = findings.map(\.level).max() ?? .ok
    }

    /// One object: `level`, and `findings` with `level`, `subject`, `message` and `remedy`.
    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    /// A line each, the remedy indented below, and the counts.
    func text(colored: Bool) -> String {
        let width = findings.map(\.subject.count).max() ?? 0
        let lines = findings.flatMap { finding in
            let level = finding.level.rawValue.padded(to: 8)
            let line =
                "\(colored ? finding.level.colored(level) : level) \(finding.subject.padded(to: width))  "
                + finding.message.visible
            return [line] + (finding.remedy.map { [String(repeating: " ", count: width + 11) + $0.visible] } ?? [])
        }
        let (failures, warnings) = (count(.failure), count(.warning))
        let sum =
            "\(failures) \(failures == 1 ? "failure" : "failures"), \(warnings) \(warnings == 1 ? "warning" : "warnings")"
        return (lines + [sum]).joined(separator: "\n")
    }

    private func count(_ level: Finding.Level) -> Int { findings.count { $0.level == level } }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(width - count, 0))
    }
}

extension Finding.Level {
    /// `text` in green, yellow or red.
    fileprivate func colored(_ text: String) -> String {
        let color =
            switch self {
            case .ok: 32
            case .warning: 33
            case .failure: 31
            }
        return "\u{1B}[\(color)m\(text)\u{1B}[0m"
    }
}
