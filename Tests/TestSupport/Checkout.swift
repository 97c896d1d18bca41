package import Foundation

/// The working copy that these tests were built from.
package enum Checkout {
    /// Its folder, found from this file; a scratch package may link to it.
    package static let root = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The folder of the migrations' files.
    package static let migrations = root.appending(path: "migrations").path()

    /// The folder of the executables that were built together with the running one.
    package static var products: URL {
        URL(filePath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
    }
}
