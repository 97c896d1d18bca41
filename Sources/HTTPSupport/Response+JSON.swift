internal import HTTPTypes
package import Hummingbird
package import NIOCore

extension Response {
    /// An answer whose body is finished JSON; `Content-Type` is Laravel's `application/json`.
    package init(status: HTTPResponse.Status, json: ByteBuffer) {
        self.init(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: json))
    }
}
