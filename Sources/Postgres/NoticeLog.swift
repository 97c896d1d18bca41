import CLibPQ
import Logging

/// Writes the server's notices to a log, at debug; libpq would print them to standard error.
final class NoticeLog {
    private let logger: Logger

    init(_ logger: Logger) {
        self.logger = logger
    }

    /// Receives the notices of `connection`, which must not outlive this object.
    func receive(from connection: OpaquePointer) {
        PQsetNoticeReceiver(
            connection,
            { context, result in
                guard let context, let result else { return }
                Unmanaged<NoticeLog>.fromOpaque(context).takeUnretainedValue().log(result)
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    private func log(_ result: OpaquePointer) {
        func field(_ letter: Unicode.Scalar) -> String {
            PQresultErrorField(result, Int32(letter.value)).map { String(cString: $0) } ?? ""
        }
        logger.debug(
            "notice from PostgreSQL",
            metadata: ["severity": "\(field("V"))", "sqlState": "\(field("C"))", "notice": "\(field("M"))"])
    }
}
