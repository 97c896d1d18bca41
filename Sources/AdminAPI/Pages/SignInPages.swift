import Domain
import HTTPSupport
import HTTPTypes
import Hummingbird
import Storage

/// Signing in to the pages by e-mail and password, and signing out.
struct SignInPages: Sendable {
    let authenticator: Authenticator
    let policy: SignInPolicy
    let live: LiveHub

    /// Leads to the first page of the caller's kind.
    @Sendable func choose(_ request: PageRequest) async throws -> PageAnswer {
        .redirect(try Self.home(of: request.user))
    }

    private static func home(of user: UserProfile) -> String { user.isAdmin ? "/operator" : "/overview" }

    @Sendable func show(_ request: PageRequest) async throws -> PageAnswer {
        if let caller = request.caller { return .redirect(Self.home(of: caller.user)) }
        return .page("sign-in", ["next": request.query("next").json, "problem": .null, "email": .null])
    }

    @Sendable func signIn(_ request: PageRequest) async throws -> PageAnswer {
        let (email, password) = (request.field("email") ?? "", request.form.last { $0.name == "password" }?.value)
        // PostgreSQL cannot store NUL, so no account has one.
        guard !email.utf8.contains(0) else { return refusal(request, "sign_in_wrong", .unprocessableContent) }
        do {
            let user = try await policy.user(
                email: email, password: password ?? "", from: request.context, authenticator.database)
            return .response(try await response(to: request, signingIn: user))
        } catch SignInRefusal.suspended {
            return refusal(request, "sign_in_suspended", .unprocessableContent)
        } catch is SignInRefusal, is ValidationError {
            return refusal(request, "sign_in_wrong", .unprocessableContent)
        } catch let error as AppError where error.code == .tooManyRequests {
            return refusal(request, "sign_in_throttled", .tooManyRequests)
        }
    }

    private func refusal(_ request: PageRequest, _ problem: String, _ status: HTTPResponse.Status) -> PageAnswer {
        .page(
            "sign-in",
            ["next": request.field("next").json, "problem": .string(problem), "email": request.field("email").json],
            status: status)
    }

    /// The answer that leads a person who has signed in to the page that they asked for.
    private func response(to request: PageRequest, signingIn user: UserProfile) async throws -> Response {
        let cookie = authenticator.pageCookie
        let (form, now) = (authenticator.tokenForm, request.now)
        let session = try await authenticator.database.read { connection in
            let token = try AccessToken.create(
                for: user.id, connection, now: now, form: form, name: "dashboard", ability: "pages",
                end: now.advanced(by: cookie.lifetime))
            let hash = try UserProfile.findForSession(user.id, connection)?.passwordHash
            return PageCookie.Session(token: token, passwordHash: hash ?? "")
        }
        let next = request.field("next").flatMap { $0.hasPrefix("/") ? $0 : nil } ?? Self.home(of: user)
        var response = request.redirect(to: next)
        response.setCookie(cookie.keeping(session, for: request.http))
        return response
    }

    /// Deletes the caller's token and ends its streams. Laravel's own session stays, because only Laravel can end it.
    @Sendable func signOut(_ request: PageRequest) async throws -> PageAnswer {
        if case .token(let id)? = request.caller?.proof {
            try await authenticator.database.read { try AccessToken.delete(id, $0) }
            await live.check(try request.user.id)
        }
        var response = request.redirect(to: "/sign-in")
        response.setCookie(authenticator.pageCookie.ending(request.http))
        return .response(response)
    }
}
