package import Bootstrap
package import Hummingbird
internal import Logging
internal import NIOCore

/// What is known of a request beside its head and body, handed from middleware to middleware to the handler.
package struct AppRequestContext: RequestContext {
    package var coreContext: CoreRequestContextStorage
    /// Who sent the request: the connection's other end, or the client behind a trusted proxy; `nil` on a Unix socket.
    package var clientAddress: IPAddress?
    /// What the access log's line of this request will say.
    package let log: RequestLog

    package init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        clientAddress = source.channel.remoteAddress?.ipAddress.flatMap { IPAddress($0) }
        log = RequestLog()
    }

    /// The request's id in the log's lines; `-` where nothing is logged.
    package var requestID: String { logger[metadataKey: "hb.request.id"]?.description ?? "-" }
}
