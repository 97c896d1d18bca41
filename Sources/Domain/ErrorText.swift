/// How much is kept of what a proxy or provider says went wrong (`METERING_ERROR_TEXT`). Providers repeat the prompt in
/// it, mostly in quotes or inside JSON.
package enum ErrorText: String, Sendable, CaseIterable {
    /// The error's class and code, such as `RateLimitError 429`.
    case code
    /// The first line up to the first quote or bracket, at most ``lineLimit`` characters.
    case line
    /// All of it, scrubbed of keys, at most 8 KiB.
    case full

    /// Characters of a line that is kept.
    package static let lineLimit = 200
}
