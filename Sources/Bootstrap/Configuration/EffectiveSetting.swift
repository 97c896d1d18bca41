/// A setting as a program uses it, fit for a log: a secret is `***`.
package struct EffectiveSetting: Sendable, Equatable, CustomStringConvertible {
    /// Where the value comes from.
    package enum Source: String, Sendable {
        case environment
        case dotEnv = ".env"
        case `default`
    }

    package let name: String
    package let value: String
    package let source: Source

    /// `WEBHOOK_PORT=8081 (default)`
    package var description: String { "\(name)=\(value) (\(source.rawValue))" }
}
