package import Logging
internal import Synchronization

/// The part of a request's line in the access log that only its handler knows.
package final class RequestLog: Sendable {
    private struct State {
        /// With room for what every line says, so that it never grows.
        var metadata = Logger.Metadata(minimumCapacity: 12)
        var bytesIn: Int?
    }

    private let state = Mutex(State())

    package init() {}

    /// A fact of the line, such as `stored` or `duplicates`.
    package subscript(key: String) -> Logger.MetadataValue? {
        get { state.withLock { $0.metadata[key] } }
        set { state.withLock { $0.metadata[key] = newValue } }
    }

    /// The length of the body that was read; `nil` when it was not.
    package var bytesIn: Int? {
        get { state.withLock { $0.bytesIn } }
        set { state.withLock { $0.bytesIn = newValue } }
    }

    /// Every fact that was noted.
    package var metadata: Logger.Metadata {
        state.withLock { $0.metadata }
    }
}
