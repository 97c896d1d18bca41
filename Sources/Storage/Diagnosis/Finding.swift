/// What a check of the doctor saw of one subject.
package struct Finding: Sendable, Hashable, Codable {
    /// How bad it is; the greatest of a report decides the exit code.
    package enum Level: String, Sendable, Codable, CaseIterable, Comparable {
        case ok, warning, failure

        package static func < (left: Level, right: Level) -> Bool {
            (allCases.firstIndex(of: left) ?? 0) < (allCases.firstIndex(of: right) ?? 0)
        }
    }

    package let level: Level
    /// The check's name.
    package let subject: String
    /// One sentence of what is, without any secret.
    package let message: String
    /// What to do about it; `nil` where there is nothing to do.
    package let remedy: String?

    private init(_ level: Level, _ subject: String, _ message: String, _ remedy: String?) {
        self.level = level
        self.subject = subject
        self.message = message
        self.remedy = remedy
    }

    package static func ok(_ subject: String, _ message: String) -> Finding {
        Finding(.ok, subject, message, nil)
    }

    package static func warning(_ subject: String, _ message: String, _ remedy: String) -> Finding {
        Finding(.warning, subject, message, remedy)
    }

    package static func failure(_ subject: String, _ message: String, _ remedy: String) -> Finding {
        Finding(.failure, subject, message, remedy)
    }
}

extension [Finding] {
    /// Themselves, or that all is well where there are none.
    func orOK(_ subject: String, _ message: String) -> [Finding] {
        isEmpty ? [.ok(subject, message)] : self
    }
}
