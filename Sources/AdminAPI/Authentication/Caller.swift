import Storage

/// Who asks, and how that is known.
struct Caller: Sendable, Hashable {
    enum Proof: Sendable, Hashable {
        /// Sanctum's bearer token, by its id.
        case token(Int64)
        /// Laravel's session cookie.
        case session
    }

    let user: UserProfile
    let proof: Proof
}
