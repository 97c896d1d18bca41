internal import Glibc

extension CommitProxy {
    /// The proxy cannot listen.
    package struct PortTaken: Error {
        let error: Int32
    }

    /// A socket that listens on the loopback address, and its port; port 0 picks one.
    static func listen(on port: UInt16) throws -> (listener: Int32, port: UInt16) {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var yes: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = loopback(port)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withSocketAddress(&address) { pointer in
            bind(listener, pointer, length) | Glibc.listen(listener, 64) | getsockname(listener, pointer, &length)
        }
        guard status == 0 else { throw PortTaken(error: errno) }
        return (listener, UInt16(bigEndian: address.sin_port))
    }

    /// A socket connected to `port` of the loopback address; negative if that fails.
    static func connect(port: UInt16) -> Int32 {
        let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(port)
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        return withSocketAddress(&address) { Glibc.connect(server, $0, length) } == 0 ? server : -1
    }

    /// A socket connected to the Unix-domain socket at `path`; negative if that fails.
    static func connect(path: String) -> Int32 {
        let server = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        return withSocketAddress(&address) { Glibc.connect(server, $0, length) } == 0 ? server : -1
    }

    private static func loopback(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    private static func withSocketAddress<T>(
        _ address: inout T, _ body: (UnsafeMutablePointer<sockaddr>) -> Int32
    ) -> Int32 {
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1, body)
        }
    }
}
