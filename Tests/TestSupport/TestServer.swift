internal import Foundation
package import Postgres

/// The PostgreSQL server that `make test` starts and names in `TEST_DATABASE_URL`.
package enum TestServer {
    /// Tests cannot go on without a server that may be wiped.
    package enum Refusal: Error, CustomStringConvertible {
        case missing
        case foreign(host: String)

        package var description: String {
            switch self {
            case .missing: "TEST_DATABASE_URL is not set: run the tests by 'make test', which starts a server for them"
            case .foreign(let host): "TEST_DATABASE_URL names '\(host)': tests use a server of this machine only"
            }
        }
    }

    /// Where its maintenance database is.
    ///
    /// Throws ``Refusal`` where there is none or it is on another machine, and what a malformed URL throws.
    package static func configuration() throws -> ConnectionConfiguration {
        guard let url = ProcessInfo.processInfo.environment["TEST_DATABASE_URL"], !url.isEmpty else {
            throw Refusal.missing
        }
        return try configuration(url: url)
    }

    /// Where `url` leads, which must be this machine. Throws as ``configuration()``.
    package static func configuration(url: String) throws -> ConnectionConfiguration {
        var configuration = try ConnectionConfiguration(url: url)
        // Tests write `users` for Laravel's table; the programs do not, and their roles find nothing there.
        configuration.searchPath = "public"
        let loopback: Set = ["127.0.0.1", "::1", "localhost"]
        guard loopback.contains(configuration.host) || configuration.host.hasPrefix("/") else {
            throw Refusal.foreign(host: configuration.host)
        }
        return configuration
    }
}

extension ConnectionConfiguration {
    /// The URL that leads there, as `DATABASE_URL` wants it.
    package var url: String {
        var allowed = CharacterSet.alphanumerics
        allowed.insert(charactersIn: "-._~")
        let encode = { (text: String) in text.addingPercentEncoding(withAllowedCharacters: allowed) ?? "" }
        let credentials = encode(user) + (password.map { ":" + encode($0) } ?? "")
        return "postgresql://\(credentials)@/\(encode(database))?host=\(encode(host))&port=\(port)"
    }

    /// The same server's database `name`.
    package func database(_ name: String) -> ConnectionConfiguration {
        var other = self
        other.database = name
        return other
    }
}
