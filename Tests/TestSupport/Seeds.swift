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

/// A small random number generator with a seed (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
/// 2014). The same seed gives the same numbers.
package struct SplitMix64: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) {
        state = seed
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// True in `percent` of 100 cases.
    mutating func chance(_ percent: Int) -> Bool {
        Int.random(in: 0..<100, using: &self) < percent
    }
}
