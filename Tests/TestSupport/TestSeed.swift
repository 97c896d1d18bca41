internal import Foundation

/// The seeds of random tests. `TEST_SEED=… make test ARGS="--filter Name"` repeats a run with the seed that it printed.
package enum TestSeed {
    /// The seed of the test `name`: `TEST_SEED`, else `standard`, else a random one. It is printed.
    package static func seed(of name: String = #function, standard: UInt64? = nil) -> UInt64 {
        let stated = ProcessInfo.processInfo.environment["TEST_SEED"].flatMap { UInt64($0) }
        let seed = stated ?? standard ?? .random(in: 0...999_999_999)
        print("TEST_SEED=\(seed) repeats \(name)")
        return seed
    }
}
