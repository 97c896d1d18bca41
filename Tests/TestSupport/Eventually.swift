/// What ``eventually(_:within:isolation:)`` waited for did not come true.
package struct NotInTime: Error, CustomStringConvertible {
    package let what: String
    package let deadline: Duration

    package var description: String { "not within \(deadline): \(what)" }
}

/// Waits until `isTrue`, asking every few milliseconds. Use it where nothing can be awaited: another process, a queue's
/// length, a row of another session.
///
/// The error names `what` was waited for.
///
/// - Throws: ``NotInTime`` after `deadline`; `CancellationError`; what `isTrue` throws.
package func eventually(
    _ what: String, within deadline: Duration = .seconds(60), isolation: isolated (any Actor)? = #isolation,
    _ isTrue: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + deadline
    while try await !isTrue() {
        guard ContinuousClock.now < end else { throw NotInTime(what: what, deadline: deadline) }
        try await Task.sleep(for: .milliseconds(2))
    }
}
