import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization
import Testing

/// An answer on its way from the thread that makes it to a client that may not want it.
@Suite(.timeLimit(.minutes(30))) struct ChunkPipeTests {
    /// What a client has read, until it has enough.
    private struct Reader: ResponseBodyWriter {
        struct Gone: Error {}

        let pieces: Lengths
        let limit: Int

        mutating func write(_ buffer: ByteBuffer) async throws {
            guard pieces.all.count < limit else { throw Gone() }
            pieces.append(buffer.readableBytes)
        }

        consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
    }

    @Test func aLongPieceComesInShortOnes() async throws {
        let read = Lengths()
        var writer: any ResponseBodyWriter = Reader(pieces: read, limit: .max)
        try await ChunkPipe.stream(to: &writer, timeout: .seconds(60)) { pipe in
            try pipe.send(Array(repeating: 1, count: 150_000))
        }
        #expect(read.all == [65_536, 65_536, 18_928])
    }

    /// The maker of an answer learns at its next chunk that nobody reads any more.
    @Test func aClientThatLeavesEndsWhatIsMadeForIt() async throws {
        for _ in 0..<200 {
            let read = Lengths()
            var writer: any ResponseBodyWriter = Reader(pieces: read, limit: 3)
            let (ends, end) = AsyncStream.makeStream(of: (any Error)?.self)
            await #expect(throws: Reader.Gone.self) {
                try await ChunkPipe.stream(to: &writer, timeout: .seconds(60)) { pipe in
                    do { while true { try pipe.send(Array(repeating: 1, count: 1 << 20)) } } catch { end.yield(error) }
                }
            }
            for await error in ends {
                #expect(error is CancellationError)
                break
            }
        }
    }
}

/// A list that a reader and its test both hold.
private final class Lengths: Sendable {
    private let list = Mutex<[Int]>([])
    var all: [Int] { list.withLock { $0 } }
    func append(_ number: Int) { list.withLock { $0.append(number) } }
}
