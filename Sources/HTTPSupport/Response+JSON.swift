internal import FoundationEssentials
internal import HTTPTypes
package import Hummingbird
package import NIOCore

extension Response {
    /// An answer whose body is finished JSON; `Content-Type` is Laravel's `application/json`.
    package init(status: HTTPResponse.Status, json: ByteBuffer) {
        self.init(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: json))
    }
}

extension ByteBuffer {
    /// The JSON of a small value, with sorted keys and plain slashes.
    /// - Throws: `EncodingError`
    package init(json value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        self.init(bytes: try encoder.encode(value))
    }
}
